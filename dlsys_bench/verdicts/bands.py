"""Reference bands: the mean and the standard deviation of a figure over an arm's reference runs.

The interval of a band is a prediction interval for the mean of m new runs, given n reference runs
from the same normal distribution: mean +- t(1 - alpha / 2, n - 1) * std * sqrt(1 / n + 1 / m). It
is used for published figures. The gate, whose alpha is too small to rely on normality, uses ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy

FEWEST_RUNS = 3
"""With fewer reference runs there is no gate: their standard deviation is too uncertain."""


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """The mean and the sample standard deviation of n figures, and the file they come from."""

    mean: float
    std: float
    n: int
    source: str

    @classmethod
    def of(cls, values: Sequence[float], source: str, resolution: float = 0.0) -> Band:
        """Return the band of these figures.

        `resolution` is the smallest step of the figure, as 1 / test samples. The standard deviation
        is at least that of the rounding to this step: runs that agree by chance to the last step
        have not shown a deviation of zero.
        """
        figures = np.asarray(values, np.float64)
        std = float(figures.std(ddof=1))
        # Sums of equal figures deviate by rounding errors only.
        std = 0.0 if std <= 1e-12 * float(np.abs(figures).max()) else std
        std = max(std, resolution / math.sqrt(12.0))
        return cls(float(figures.mean()), std, len(figures), source)

    def to_dict(self) -> dict[str, Any]:
        """Return the band as JSON values; the JSON calls the standard deviation "spread"."""
        return {"mean": self.mean, "spread": self.std, "n": self.n, "source": self.source}

    def interval(self, alpha: float, runs: int = 1) -> Interval:
        """Return the interval that holds the mean of `runs` new runs with probability 1 - alpha."""
        half = self._quantile(alpha / 2) * self._error(runs)
        return Interval(self.mean - half, self.mean + half)

    def p_value(self, value: float) -> float:
        """Return the probability that one new run lies at least as far from the mean as `value`."""
        return 2.0 * float(scipy.stats.t.sf(abs(value - self.mean) / self._error(1), self.n - 1))

    def _error(self, runs: int) -> float:
        return self.std * math.sqrt(1.0 / self.n + 1.0 / runs)

    def _quantile(self, tail: float) -> float:
        return float(scipy.stats.t.isf(tail, self.n - 1))
