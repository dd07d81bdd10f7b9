"""The correlation of two sets of runs at equal seeds, which decides if they are compared in pairs.

A paired test is the more sensitive one if what a seed draws moves both sides alike, as before and
after a refactoring. Two engines that draw different random numbers have nothing in common at equal
seeds: pairs then cost degrees of freedom, and the runs whose seeds the other side lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import scipy

FEWEST_PAIRS = 3
"""The fewest common seeds for a paired test, and the fewest runs with a variance of their own."""

CORRELATED = 0.02
"""Runs are paired if their correlation is significant at this level, two-sided. Selecting the test
in this way adds at most 0.3 percentage points to a false-alarm rate of 5%."""

FiguresBySeed = Mapping[int, float]
"""A figure of several runs, by seed."""


class Correlation(NamedTuple):
    """The correlation within pairs of runs of equal seed, and its two-sided p-value."""

    r: float
    p: float


def correlation(samples: Iterable[tuple[FiguresBySeed, FiguresBySeed]]) -> Correlation:
    """Return the correlation at equal seeds, pooled within arms, and its test by Student's t.

    Each sample holds the figures of an arm on both sides. The correlation of an arm with k pairs
    has the weight k - 1, so that of a single arm is Pearson's. An arm with fewer than FEWEST_PAIRS
    pairs, or whose figures are all equal on one side, says nothing about it.
    """
    products, df = 0.0, 0
    for a, b in samples:
        shared = common_seeds(a, b)
        x, y = (np.array([side[seed] for seed in shared], np.float64) for side in (a, b))
        if len(shared) < FEWEST_PAIRS or _constant(x) or _constant(y):
            continue
        products += (len(shared) - 1) * float(np.corrcoef(x, y)[0, 1])
        df += len(shared) - 1
    if df < FEWEST_PAIRS - 1:
        return Correlation(0.0, 1.0)
    r = max(-1.0, min(1.0, products / df))
    t = inf if r * r >= 1.0 else abs(r) * sqrt((df - 1) / (1 - r * r))
    return Correlation(r, 2 * float(scipy.stats.t.sf(t, df - 1)))


def common_seeds(a: FiguresBySeed, b: FiguresBySeed) -> list[int]:
    """Return the seeds that both sides have, in order."""
    return sorted(set(a) & set(b))


def seeds_to_pair(a: FiguresBySeed, b: FiguresBySeed, found: Correlation) -> list[int]:
    """Return the seeds to pair two sets of figures by; none if Welch's test is the better one.

    Runs are paired if they correlate significantly, and either negatively, where Welch's interval
    would be too narrow, or so strongly that the paired interval is the narrower one, although it
    leaves out the runs without a counterpart and has fewer degrees of freedom.
    """
    shared = common_seeds(a, b)
    k, n, m = len(shared), len(a), len(b)
    if k < FEWEST_PAIRS or found.p >= CORRELATED:
        return []
    paired = sqrt(2 * (1 - found.r) / k) * float(scipy.stats.t.ppf(0.975, k - 1))
    welch = sqrt(1 / n + 1 / m) * float(scipy.stats.t.ppf(0.975, n + m - 2))
    return shared if found.r < 0 or paired < welch else []


def _constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max()) if len(values) else True
