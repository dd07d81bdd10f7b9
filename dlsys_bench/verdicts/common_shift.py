"""The test of a shift over several strata: its null distribution, and the shift that it detects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.verdicts.decision import EXACT
from dlsys_bench.verdicts.stratum import Stratum

CELLS = 2**14
"""The number of cells of the grid between the smallest and the largest statistic."""

MOST_SIMULATIONS, MOST_PAIRS = 10_000, 10**8
"""The number of simulated sessions, and that of their pairs of a new and a stored run, at most."""

STEPS = 12
"""The number of bisections for the shift that is detected, between 0 and WIDEST."""

WIDEST = 16.0
"""The largest shift that is computed, in standard deviations."""


@lru_cache(maxsize=64)
def null_distribution(strata: tuple[Stratum, ...]) -> NullDistribution:
    """Return the null distribution of strata whose ranks are sorted. Without ties, arms with as
    many runs share it."""
    return NullDistribution(strata)


class NullDistribution:
    """The null distribution of the weighted sum over all strata, on a grid."""

    def __init__(self, strata: Sequence[Stratum]) -> None:
        spans = [float(np.ptp(s.distribution[0])) * s.weight for s in strata]
        self.step = sum(spans) / CELLS or 1.0
        self.first, self.probabilities = 0, np.ones(1)
        for stratum in strata:
            excesses, probabilities = stratum.distribution
            cells = self.rounded(stratum, excesses)
            counts = np.bincount(cells - cells[0], weights=probabilities)
            self.probabilities = np.convolve(self.probabilities, counts)
            self.first += int(cells[0])

    def rounded(self, stratum: Stratum, excess: Any) -> NDArray[np.int64]:
        """Return the contribution of an excess of a stratum to the statistic, in cells."""
        return np.rint(stratum.weight * np.asarray(excess) / self.step).astype(np.int64)

    def cell(self, stratum: Stratum) -> int:
        """Return the contribution of a stratum to the statistic, in cells."""
        return int(self.rounded(stratum, stratum.excess))

    def tails(self, statistic: int) -> tuple[float, float]:
        """Return the probabilities of a statistic as low, and of one as high."""
        place = statistic - self.first
        low = float(self.probabilities[: place + 1].sum())
        high = float(self.probabilities[place:].sum())
        return low, high

    def highest_at(self, level: float) -> int:
        """Return the highest statistic whose lower tail is within a level."""
        within = np.cumsum(self.probabilities) <= level * EXACT
        return self.first + int(np.count_nonzero(within)) - 1

    @property
    def smallest(self) -> float:
        """The smallest tail probability of any outcome."""
        return float(min(self.probabilities[0], self.probabilities[-1]))


@lru_cache(maxsize=64)
def detected_shift(sizes: tuple[tuple[int, int], ...], level: float, beta: float) -> float | None:
    """Return the common shift, in standard deviations, that fails with probability 1 - beta.

    `sizes` holds the numbers of stored and of new runs of each stratum, and `level` is that of one
    side. Simulated for normally distributed figures without ties; None if no shift up to WIDEST is
    detected. The normal approximation would promise too much for few strata: at the shift that two
    of 20 stored and two new runs detect by it, the power is 0.88 in place of 0.99.
    """
    ranks = {(n, m): tuple(range(2, 2 * (n + m) + 1, 2)) for n, m in sizes}
    strata = [Stratum(ranks[size], size[0]) for size in sizes]
    null = null_distribution(tuple(strata))
    if null.smallest > level * EXACT:
        return None
    highest, pairs = null.highest_at(level), sum(n * m for n, m in sizes)
    simulations = max(1, min(MOST_SIMULATIONS, MOST_PAIRS // pairs))
    generator = np.random.default_rng(0)
    draws = [
        (generator.standard_normal((n, simulations)), generator.standard_normal((m, simulations)))
        for n, m in sizes
    ]

    def power(shift: float) -> float:
        statistic = np.zeros(simulations, np.int64)
        for stratum, (x, y) in zip(strata, draws, strict=True):
            exceeded = sum((one > x).sum(axis=0) for one in y - shift)
            statistic += null.rounded(stratum, 2 * exceeded - stratum.stored * stratum.new)
        return float((statistic <= highest).mean())

    # As for a gate, the simulated power has to exceed 1 - beta by two of its standard errors.
    least = 1 - beta + 2 * sqrt(beta * (1 - beta) / simulations)
    low, high = 0.0, WIDEST
    if power(high) < least:
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= least else (middle, high)
    return high
