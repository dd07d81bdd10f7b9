"""The exact rank-sum test with ties: the p-values of new runs among reference runs.

If new and reference runs come from one distribution, whatever it is, every choice of which of them
are new is equally likely. The test assumes nothing else: skew, heavy tails, discrete figures and
runs that diverged (infinite values) change nothing. Wilcoxon 1945; Mann & Whitney 1947; with ties,
conditional on them: Lehmann 1975, chapter 1.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Values closer than this fraction of the median are ties: 0.955 + 0.005 and 0.96 differ only by
# rounding. A fraction of the largest value would be too much: a loss of a billion, shortly before
# it becomes infinite, would tie all others.
ROUNDING = 1e-9

SMALLEST = 1e-140
"""The smallest median whose fraction separates values; smaller values have no digits to round."""


class PValues(NamedTuple):
    """The one-sided p-values of new values as low as these, and as high."""

    low: float
    high: float


def p_values(stored: ArrayLike, new: ArrayLike) -> PValues:
    """Return both one-sided p-values of m new values (m,) among n reference values (n,).

    Each of them is exact.
    """
    x, y = np.asarray(stored, np.float64), np.asarray(new, np.float64)
    ranks = doubled_ranks(np.concatenate([x, y]))
    # The upper tail is the lower tail of the ranks counted from the other end. Both are sums of
    # their own, so that neither loses digits as the complement of the other would.
    mirrored = 2 * (len(ranks) + 1) - ranks
    return PValues(_tail(ranks, len(x)), _tail(mirrored, len(x)))


def _tail(ranks: NDArray[np.intp], stored: int) -> float:
    """Return the probability that the new ranks, those after the stored ones, sum to no more."""
    chosen = ranks[stored:]
    if len(chosen) > stored:
        # The new ranks sum to no more if the stored ones, counted from the other end, do.
        ranks = 2 * (len(ranks) + 1) - ranks
        chosen = ranks[:stored]
    below = _below(tuple(sorted(ranks.tolist())), len(chosen))
    return float(below[int(chosen.sum())])


def smallest_p_value(stored: int, new: int) -> float:
    """Return the p-value of the most extreme outcome: every new value below every stored one."""
    return 1.0 / comb(stored + new, new)


def untied(stored: int, new: int) -> NDArray[np.float64]:
    """Return P(U <= u) without ties, for u = 0..stored*new.

    U counts the pairs of a new and a stored value in which the new one is the higher. Its
    distribution is the same if the two numbers are exchanged.
    """
    fewer = min(stored, new)
    below = _below(tuple(range(1, stored + new + 1)), fewer)
    return below[fewer * (fewer + 1) // 2 :]


def doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return twice the mean rank of each value, which is a whole number even for ties."""
    finite = np.abs(values[np.isfinite(values) & (values != 0)])
    unit = ROUNDING * (max(float(np.median(finite)), SMALLEST) if finite.size else 1.0)
    with np.errstate(over="ignore"):
        steps = np.round(values / unit)
    _, place, counts = np.unique(steps, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[place]


@lru_cache(maxsize=4096)
def _below(ranks: tuple[int, ...], chosen: int) -> NDArray[np.float64]:
    """Return P(S <= s) for s = 0, 1, ..., where S is the sum of `chosen` ranks."""
    below = np.cumsum(rank_sum_counts(ranks, chosen))
    below /= below[-1]
    below.setflags(write=False)
    return below


def rank_sum_counts(ranks: tuple[int, ...], chosen: int) -> NDArray[np.float64]:
    """Return in how many ways `chosen` of the ranks, drawn without replacement, sum to 0, 1, ...

    The ranks have to be sorted (Streitberg & Röhmel 1986).
    """
    most = sum(ranks[len(ranks) - chosen :])
    ways = np.zeros((chosen + 1, most + 1))
    ways[0, 0] = 1.0
    for number, rank in enumerate(ranks, start=1):
        drawn = min(number, chosen)
        # The right-hand side is computed before it is added, so that each rank is drawn once.
        ways[1 : drawn + 1, rank:] += ways[:drawn, : most + 1 - rank]
    counts: NDArray[np.float64] = ways[chosen]
    return counts
