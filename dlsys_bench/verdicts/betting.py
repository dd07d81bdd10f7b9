"""An e-process over the ranks of new runs, which may be judged after each of them, for good.

If the reference runs and all new runs are exchangeable, the rank of each new run among all runs
before it is uniform, and independent of the earlier ranks (Vovk, Gammerman & Shafer 2005, chapter
8). Whoever bets on these ranks at fair odds, and starts with 1, ever holds 1,000 or more with
probability at most 1/1000 (Ville 1939). This is true whatever the distribution of the figures, for
any reference runs, and however often one looks.

A bet states how new runs are distributed if something changed: it is the density of their ranks
under an alternative. Later runs are ranked among the runs after the change as well, so that their
ranks return to uniform; the alternatives allow for that. Alternatives differ in the kind of the
change and in its time, and the capital is the weighted mean over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from dlsys_bench.verdicts.variance import Values

STEPS = 40
"""The number of bisections for a quantile, between -WIDEST and WIDEST standard deviations."""

WIDEST = 40.0

FEWEST_BETWEEN, GROWTH = 10, 0.15
"""A change may begin at every tenth run; after many runs, at intervals of 15% of their number."""


class Alternative(NamedTuple):
    """The distribution of runs after a change, where that of the reference runs is normal.

    A fraction `collapsed` lies below all reference runs. The others are shifted by `shift` standard
    deviations, and spread by the factors `below` and `above` their mean.
    """

    name: str
    weight: float
    shift: float = 0.0
    below: float = 1.0
    above: float = 1.0
    collapsed: float = 0.0

    def quantiles(self, share: Values, fraction: Values) -> Values:
        """Return the fraction of the changed runs that lie below a quantile of all runs.

        `share` is the fraction of the changed runs among all of them. The result increases from 0
        to 1 with `fraction`, so that bets which are differences of it are fair, however exact.
        """
        if self.collapsed:
            bottom = share * self.collapsed
            rest = np.maximum(fraction - bottom, 0.0) / (1 - bottom)
            above = self.collapsed + (1 - self.collapsed) * rest
            return np.where(fraction < bottom, fraction / share, above)
        low = np.full(np.broadcast_shapes(share.shape, fraction.shape), -WIDEST)
        high = -low
        for _ in range(STEPS):
            middle = (low + high) / 2
            under = share * self.cumulative(middle) + (1 - share) * special.ndtr(middle) < fraction
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        inside = self.cumulative((low + high) / 2)
        return np.where(fraction <= 0.0, 0.0, np.where(fraction >= 1.0, 1.0, inside))

    def cumulative(self, x: Values) -> Values:
        """Return the fraction of the changed runs that do not collapse and lie below x."""
        gap = x - self.shift
        return np.asarray(special.ndtr(np.where(gap < 0, gap / self.below, gap / self.above)))


WORSE = (
    Alternative("worse by 1 standard deviation", 2.0, shift=-1.0),
    Alternative("worse by 2 standard deviations", 0.5, shift=-2.0),
    Alternative("worse by 0.6 standard deviations", 0.5, shift=-0.6),
    Alternative("one run in four collapses", 1.5, collapsed=0.25),
    Alternative("a fourfold spread of poor runs", 1.0, below=4.0),
    Alternative("a doubled spread of poor runs", 0.5, below=2.0),
)
"""The changes to the worse, with their weights; low figures are the worse ones."""

EITHER = (
    *WORSE[:4],
    Alternative("better by 1.2 standard deviations", 0.5, shift=1.2),
    Alternative("a fourfold spread", 1.0, below=4.0, above=4.0),
    Alternative("a doubled spread", 0.5, below=2.0, above=2.0),
)
"""The changes in either direction."""


class Capital(NamedTuple):
    """The logarithm of the capital after each run, and the alternative that has most of it now.

    The alternative is a kind of change, and the number of new runs before it.
    """

    logs: Values
    name: str
    start: int


def ranks_of(
    reference: Sequence[float], new: Sequence[float], draws: Sequence[float]
) -> NDArray[np.intp]:
    """Return the rank of each new run among the runs up to itself, from 1.

    Among equal figures, the rank is decided by a uniform random number of [0, 1) per run.
    """
    values = np.array([*reference, *new], np.float64)
    found = []
    for place, draw in enumerate(draws, start=len(reference)):
        earlier = values[:place]
        equal = int((earlier == values[place]).sum())
        found.append(1 + int((earlier < values[place]).sum()) + int(draw * (equal + 1)))
    return np.array(found, np.intp)


def starts() -> Iterator[tuple[int, float]]:
    """Yield the numbers of runs before a possible change, with their weights, which sum to 1."""
    start, number = 0, 1
    while True:
        yield start, 1.0 / (number * (number + 1))
        start += max(FEWEST_BETWEEN, int(GROWTH * start))
        number += 1


def log_bets(
    alternative: Alternative, reference: Values, changed: Values, low: Values, high: Values
) -> Values:
    """Return the logarithm of the factor by which a bet on an alternative multiplies its stake.

    `reference` and `changed` are the numbers of runs before, and since, the change that the
    alternative assumes; the new run is among the fractions `low` to `high` of all runs.
    """
    total = reference + changed + 1
    share = (changed + 1) / total
    inside = alternative.quantiles(share, high) - alternative.quantiles(share, low)
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(inside, 0.0) * total)


def capital(
    ranks: NDArray[np.intp], reference: int, alternatives: Sequence[Alternative]
) -> Capital:
    """Return the capital of the mixture of bets after each run.

    `reference` is the number of reference runs, and `ranks` are those of `ranks_of`.
    """
    count = len(ranks)
    known = list(takewhile(lambda each: each[0] < count, starts()))
    begin = np.array([start for start, _ in known])
    before = np.arange(count)[:, None]
    total = reference + before + 1.0
    low, high = (ranks[:, None] - 1) / total, ranks[:, None] / total
    changed = np.maximum(before - begin, 0).astype(np.float64)
    weights = np.array([one.weight for one in alternatives])
    every = []
    for one, weight in zip(alternatives, weights / weights.sum(), strict=True):
        bets = log_bets(one, reference + before - changed, changed, low, high)
        bets = np.where(before >= begin, bets, 0.0)
        every.append(np.cumsum(bets, axis=0) + np.log([w * weight for _, w in known]))
    logs = np.stack(every, axis=2)
    # Changes that would begin later have lost nothing yet.
    later = max(0.0, 1.0 - sum(weight for _, weight in known))
    idle = np.full((count, 1), np.log(later))
    together = special.logsumexp(np.hstack([logs.reshape(count, -1), idle]), axis=1)
    place, kind = np.unravel_index(int(np.argmax(logs[-1])), logs[-1].shape)
    return Capital(together, alternatives[int(kind)].name, int(begin[place]))
