"""Exact tests for the tail and for the spread of new runs among reference runs.

A rank sum shows a shift of all runs. It hardly shows a fraction of the runs that collapse, or a
larger spread about an equal median. Two more tests show these:

- The *tail* test counts the new runs that lie beyond every reference run (Rosenbaum 1954). If all
  runs come from one distribution, k of m do so among n reference runs with probability at most
  C(m, k) / C(n + m, k); ties only make it smaller.
- The *spread* test sums the squared normal scores of the new runs (Klotz 1962). Its distribution
  over all choices of the new runs among all runs is computed exactly, conditional on ties.

Both depend on the ranks alone, so that they hold for every distribution, as the rank sum does.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dlsys_bench.verdicts.ranks import rank_sum_counts

Ranks = NDArray[np.intp]

UNIT = 32
"""The number of steps of a squared normal score between 0 and 1. Scores are whole numbers of steps,
so that the distribution of their sum is exact."""

ROUNDING = 1e-9
"""The error of a sum of scores."""


def beyond_all(ranks: Ranks, stored: int, side: int) -> int:
    """Return how many new runs lie below every stored run (side -1), or above (side 1).

    `ranks` are the doubled ranks of `doubled_ranks`, the stored runs first.
    """
    placed = side * ranks
    return int((placed[stored:] > placed[:stored].max()).sum())


def tail_p_value(stored: int, new: int, beyond: int) -> float:
    """Return the probability that `beyond` or more new runs lie beyond every stored run, on one
    given side. It is exact without ties, and an upper bound with ties."""
    return comb(new, beyond) / comb(stored + new, beyond)


def tail_probabilities(stored: int, new: int) -> NDArray[np.float64]:
    """Return the probabilities that 0, 1, ..., new of the new runs lie beyond every stored run."""
    at_least = [tail_p_value(stored, new, beyond) for beyond in range(new + 1)]
    return -np.diff([*at_least, 0.0])


def spread_scores(ranks: Ranks) -> Ranks:
    """Return the squared normal score of each doubled rank, in steps of 1 / UNIT."""
    quantiles = special.ndtri(ranks / (2.0 * (len(ranks) + 1)))
    scores: Ranks = np.rint(UNIT * quantiles**2).astype(np.intp)
    return scores


def spread_p_value(ranks: Ranks, stored: int, sides: tuple[int, ...]) -> float:
    """Return the probability of scores of the new runs that sum to as much.

    With one side, -1 or 1, new runs that merely lie on the other side have no larger spread: the
    p-value is 1 unless the scores on the given side are at least what is expected of them.
    """
    scores = spread_scores(ranks)
    if all(excess_on_side(ranks, stored, side) < -ROUNDING for side in sides):
        return 1.0
    probabilities = spread_probabilities(tuple(sorted(scores.tolist())), len(ranks) - stored)
    return float(probabilities[int(scores[stored:].sum()) :].sum())


def excess_on_side(ranks: Ranks, stored: int, side: int) -> float:
    """Return the sum of the scores of the new runs in the lower half (side -1) or the upper half of
    all runs, minus its expected value."""
    on_side = np.where(side * (ranks - len(ranks) - 1) > 0, spread_scores(ranks), 0)
    return float(on_side[stored:].sum() - (len(ranks) - stored) * on_side.mean())


@lru_cache(maxsize=1024)
def spread_probabilities(scores: tuple[int, ...], chosen: int) -> NDArray[np.float64]:
    """Return P(S = s) for s = 0, 1, ..., where S is the sum of `chosen` of the sorted scores."""
    counts = rank_sum_counts(scores, chosen)
    probabilities: NDArray[np.float64] = counts / counts.sum()
    probabilities.setflags(write=False)
    return probabilities
