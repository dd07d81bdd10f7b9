"""Change points of a series of figures, one figure per commit, by ranks and permutations.

For each split of the series, the ranks of the figures before it and after it are compared by the
rank-sum statistic in standard deviations (Wilcoxon 1945); the test statistic is the largest over
all splits (Pettitt 1979). Without a change, every order of the figures is equally likely, whatever
their distribution, so that the p-value over random permutations is exact: with B of them, the
probability of a p-value of at most alpha is at most alpha. A series with a change is divided there
and each part is tested again (binary segmentation, Vostrikova 1981), at the same level: parts of a
series without a change are tested only after a false alarm, so that the probability of any false
alarm in a series without a change is at most alpha for one analysis of it.

At alpha 0.01, a step of three standard deviations after 20 commits (the minimum detectable effect
of a gate with 20 reference runs) is detected within eight further commits with a probability of at
least 0.95.

Figures of successive commits have to be independent. Means of the same seeds at each commit are
not exchangeable with those of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

PERMUTATIONS = 1999
"""The number of random permutations: p-values are multiples of 1 / (PERMUTATIONS + 1)."""

SEED = 0
"""The seed of the permutations, so that one series has one result."""

SHORTEST = 2
"""The smallest number of figures on a side of a split."""


@dataclass(frozen=True)
class ChangePoint:
    """A change in a series: the position of the first figure after it, and its p-value.

    `before` and `after` are the medians of the figures between it and the neighbouring changes.
    """

    position: int
    p_value: float
    before: float
    after: float


def change_points(values: Sequence[float], alpha: float) -> list[ChangePoint]:
    """Return the changes of a series in order.

    A series without a change has a false alarm with a probability of at most `alpha`. A series that
    is too short to show one at this level has none.
    """
    figures = np.asarray(values, np.float64)
    if len(figures) < 2 * SHORTEST:
        return []
    found = dict(_split(figures, 0, alpha))
    places = sorted(found)
    ends = [0, *places, len(figures)]
    medians = [float(np.median(figures[a:b])) for a, b in pairwise(ends)]
    return [
        ChangePoint(place, found[place], medians[at], medians[at + 1])
        for at, place in enumerate(places)
    ]


def _split(values: NDArray[np.float64], start: int, alpha: float) -> list[tuple[int, float]]:
    """Return position and p-value of the changes of a part that begins at `start`."""
    if len(values) < 2 * SHORTEST:
        return []
    place, p_value = largest_split(values)
    if p_value > alpha:
        return []
    left = _split(values[:place], start, alpha)
    right = _split(values[place:], start + place, alpha)
    return [*left, (start + place, p_value), *right]


def largest_split(values: NDArray[np.float64]) -> tuple[int, float]:
    """Return the split with the largest statistic, and its p-value."""
    ranks = scipy.stats.rankdata(values)
    generator = np.random.default_rng(SEED)
    permuted = generator.permuted(np.tile(ranks, (PERMUTATIONS, 1)), axis=1)
    statistics = _statistics(np.vstack([ranks, permuted]))
    largest = statistics.max(axis=1)
    # Rounding must not separate equal statistics.
    extreme = int((largest[1:] >= largest[0] * (1 - 1e-12)).sum())
    place = int(statistics[0].argmax()) + SHORTEST
    return place, (1 + extreme) / (1 + PERMUTATIONS)


def _statistics(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the absolute rank sums (rows, splits) of rows of ranks, in standard deviations."""
    count = ranks.shape[1]
    sizes = np.arange(SHORTEST, count - SHORTEST + 1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    sums = np.cumsum(centred, axis=1)[:, sizes - 1]
    deviations = np.sqrt(sizes * (count - sizes))
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / (count * max(count - 1, 1)))
    scaled: NDArray[np.float64] = np.abs(sums) / deviations
    return np.asarray(scaled / np.where(spread > 0, spread, 1.0), np.float64)
