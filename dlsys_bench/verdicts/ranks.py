"""The exact rank-sum test, ties and all: how unlikely new values are among stored ones if one law
made both.

Where new and stored runs come from one law, whatever it is, every choice of which of them are new
is equally likely. That is all the test assumes: skew, heavy tails, discrete figures and runs that
diverged (infinite) change nothing. Wilcoxon 1945; Mann & Whitney 1947; with ties conditional on
them, Lehmann 1975, chapter 1.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Values closer than this part of the median are one: 0.955 + 0.005 and 0.96 differ only by
# rounding. Of the largest would be too much: a loss of a billion, before it is infinite, would make
# all others equal.
ROUNDING = 1e-9


class Chances(NamedTuple):
    """The chance of new values as low as these, and of as high."""

    low: float
    high: float


def chances(stored: ArrayLike, new: ArrayLike) -> Chances:
    """Both one-sided chances of m new values (m,) among n stored ones (n,), each by itself
    exact."""
    x, y = np.asarray(stored, np.float64), np.asarray(new, np.float64)
    ranks = _doubled_ranks(np.concatenate([x, y]))
    # Seen from above, a rank is what it lacks of the highest: each tail is its own sum, and both
    # are exact alike.
    mirrored = 2 * (len(ranks) + 1) - ranks
    return Chances(_tail(ranks, len(x)), _tail(mirrored, len(x)))


def _tail(ranks: NDArray[np.intp], stored: int) -> float:
    """The chance of new ranks, those after the stored ones, with so low a sum."""
    below = _below(tuple(sorted(ranks.tolist())), len(ranks) - stored)
    return float(below[int(ranks[stored:].sum())])


def smallest_chance(stored: int, new: int) -> float:
    """The chance of the farthest outcome: every new value below every stored one."""
    return 1.0 / comb(stored + new, new)


def untied(stored: int, new: int) -> NDArray[np.float64]:
    """P(U <= u) for u = 0..stored*new, U the count of pairs in which the new value is the higher,
    without ties."""
    below = _below(tuple(range(2, 2 * (stored + new) + 1, 2)), new)
    return below[new * (new + 1) :: 2]


def _doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Twice the mean rank of each value, so that ties keep whole numbers."""
    finite = np.abs(values[np.isfinite(values) & (values != 0)])
    unit = ROUNDING * (float(np.median(finite)) if finite.size else 1.0)
    _, place, counts = np.unique(np.round(values / unit), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[place]


@lru_cache(maxsize=4096)
def _below(ranks: tuple[int, ...], chosen: int) -> NDArray[np.float64]:
    """P(S <= s), S the sum of so many ranks drawn without replacement (Streitberg & Röhmel
    1986)."""
    most = sum(ranks[len(ranks) - chosen :])
    ways = np.zeros((chosen + 1, most + 1))
    ways[0, 0] = 1.0
    for number, rank in enumerate(ranks, start=1):
        taken = min(number, chosen)
        # Both sides are read before either is written: a rank is drawn once.
        ways[1 : taken + 1, rank:] += ways[:taken, : most + 1 - rank]
    below = np.cumsum(ways[chosen])
    below /= below[-1]
    below.setflags(write=False)
    return below
