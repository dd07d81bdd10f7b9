"""Bands: what an arm's figure should be, from stored runs.

A band's interval is a prediction interval for the mean of m new runs, given n stored ones, all from
one normal law: mean +- t(1 - alpha / 2, n - 1) * spread * sqrt(1 / n + 1 / m). Published figures
are held to it; the gate, whose alpha is too small to lean on a law, asks ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

FEWEST_RUNS = 3
"""Fewer stored runs make no gate: they say next to nothing of how far runs stray."""


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """An arm's stored runs as one law: mean and spread (sample standard deviation) of n figures."""

    mean: float
    spread: float
    n: int
    source: str

    @classmethod
    def of(cls, values: Sequence[float], source: str, resolution: float = 0.0) -> Band:
        """The band of these figures. `resolution` is the smallest step the figure can take (1 /
        test samples): runs that happen to agree to the last step have not shown a spread of
        zero."""
        figures = np.asarray(values, np.float64)
        spread = float(figures.std(ddof=1))
        # What sums of equal figures stray by is rounding.
        spread = 0.0 if spread <= 1e-12 * float(np.abs(figures).max()) else spread
        spread = max(spread, resolution / math.sqrt(12.0))
        return cls(float(figures.mean()), spread, len(figures), source)

    def interval(self, alpha: float, runs: int = 1) -> Interval:
        """Where the mean of so many new runs falls but for a fraction alpha of the time."""
        half = self._quantile(alpha / 2) * self._error(runs)
        return Interval(self.mean - half, self.mean + half)

    def chance(self, value: float) -> float:
        """How often one new run lies as far from the mean as this, or further."""
        from scipy import stats

        return 2.0 * float(stats.t.sf(abs(value - self.mean) / self._error(1), self.n - 1))

    def _error(self, runs: int) -> float:
        return self.spread * math.sqrt(1.0 / self.n + 1.0 / runs)

    def _quantile(self, tail: float) -> float:
        from scipy import stats

        return float(stats.t.isf(tail, self.n - 1))
