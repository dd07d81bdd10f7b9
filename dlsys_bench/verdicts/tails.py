"""The tails of two sets of figures: equal means do not exclude a collapse or another spread.

Three statistics are tested: the lower tail, the upper tail, and both (Mood 1954). They sum a score
over the runs of one side. With the ranks of all runs centred at 0, the score of a run is the square
of its rank, if that is in the tail, and else 0. The p-value is that of the permutation
distribution, which is exact for up to FEW runs.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from dlsys_bench.verdicts.ranks import doubled_ranks, rank_sum_counts
from dlsys_bench.verdicts.variance import Values

GRID = 50
"""The largest score. Scores are whole numbers, so that their sums have an exact distribution."""

FEW = 120
"""With more runs than this, the sum of scores has its normal approximation."""

TENTH = 0.1

BEYOND = 3.0
"""A run counts as beyond the others if it is this many of their standard deviations further out."""


class Tails(NamedTuple):
    """The agreement of the tails of A and B.

    `p` is the p-value of equal distributions. `low` and `high` are the differences B minus A of the
    mean of the lowest tenth of the figures and of that of the highest. `beyond` describes a run
    that is far outside the other side's range, "" if there is none.
    """

    p: float
    low: float
    high: float
    beyond: str = ""

    def differ(self, margin: float) -> bool:
        """Return True if the outermost tenths differ by more than the margin."""
        return max(abs(self.low), abs(self.high)) > margin

    def __str__(self) -> str:
        return (
            "the tails differ: from A to B, the mean of the lowest tenth changes by "
            f"{self.low:+.3g}, that of the highest by {self.high:+.3g}"
        )


def tails(a: ArrayLike, b: ArrayLike, margin: float) -> Tails:
    """Compare the tails of two sets of figures, which need not be of equal number.

    A difference of the means within the margin is no difference of the tails: `p` is the larger one
    of the p-values with and without aligning the means by at most the margin.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    shift = float(np.clip(y.mean() - x.mean(), -margin, margin))
    p = max(_p_value(x, y), _p_value(x, y - shift))
    low = _tenth(y)[0] - _tenth(x)[0]
    high = _tenth(y)[1] - _tenth(x)[1]
    beyond = _beyond("B", y, "A", x, margin) or _beyond("A", x, "B", y, margin)
    return Tails(p, low, high, beyond)


def _p_value(x: Values, y: Values) -> float:
    """Return the two-sided p-value of the most significant statistic (Bonferroni)."""
    ranks = doubled_ranks(np.concatenate([x, y]))
    centred = ranks - (len(ranks) + 1)
    few = slice(len(x)) if len(x) <= len(y) else slice(len(x), None)
    parts = (np.minimum(centred, 0), np.maximum(centred, 0), centred)
    return min(1.0, len(parts) * min(_permutation(part**2, few) for part in parts))


def _permutation(scores: NDArray[np.intp], chosen: slice) -> float:
    """Return the two-sided p-value of a sum of scores over the chosen runs."""
    whole = np.rint(GRID * scores / max(int(scores.max()), 1)).astype(int)
    n, m = len(whole), len(whole[chosen])
    if n > FEW:
        error = float(whole.std(ddof=1)) * sqrt(m * (n - m) / n)
        z = abs(float(whole[chosen].sum()) - m * float(whole.mean()))
        return 2 * float(scipy.stats.norm.sf(z / error)) if error else 1.0
    counts = rank_sum_counts(tuple(sorted(whole.tolist())), m)
    below = np.cumsum(counts) / counts.sum()
    found = int(whole[chosen].sum())
    above = 1.0 - (below[found - 1] if found else 0.0)
    return min(1.0, 2 * min(float(below[found]), float(above)))


def _tenth(values: Values) -> tuple[float, float]:
    """Return the mean of the lowest tenth, and of the highest, each of at least one figure."""
    ordered, k = np.sort(values), ceil(TENTH * len(values))
    return float(ordered[:k].mean()), float(ordered[-k:].mean())


def _beyond(name: str, values: Values, other: str, others: Values, margin: float) -> str:
    """Describe the run that is furthest outside of the range of the others, if it is far."""
    spread = float(others.std(ddof=1)) if len(others) > 1 else 0.0
    allowed = max(margin, BEYOND * spread)
    low, high = others.min() - values.min(), values.max() - others.max()
    if max(low, high) <= allowed:
        return ""
    below = low >= high
    figure, edge = (values.min(), others.min()) if below else (values.max(), others.max())
    where = "below the lowest" if below else "above the highest"
    return f"a run of {name} has {figure:.5g}, {max(low, high):.3g} {where} of {other} ({edge:.5g})"
