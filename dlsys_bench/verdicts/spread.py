"""The spread of an arm of few runs, with what the other arms of its study say of it.

Moderated variances: the sample variance s^2 of an arm, of d degrees of freedom, is shrunk to what
is common to all arms, s0^2, which counts as d0 degrees of freedom more: (d0 s0^2 + d s^2) / (d0 +
d). d0 and s0 are estimated from the sample variances themselves, by the moments of log s^2. Smyth
2004 (limma's squeezeVar and fitFDist).

Pooling is justified where the arms' true spreads are alike, or stray about a common one as a scaled
inverse chi-squared law of d0 degrees of freedom does. d0 is infinite where the variances stray no
more than chi-squared says (then all are one estimate), and small where the arms truly differ: a d0
of 1 says of an arm as much as one run more of it. It says nothing of a mean.

Of few arms d0 and s0 are rough guesses, and taken as known they leave 95% intervals of four arms of
two runs at 91%. So `moderate` has two guards: the common variance is no less than the mean of the
variances it is made of, and counts as half the degrees of freedom of the other arms at most. Where
the true spreads differ, the intervals hold on the mean of the arms; that of the arm which strays
most is still too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OUTLYING = 0.01
"""An arm whose variance is so unlikely under what the others say (Bonferroni over the arms) keeps
its own."""

Array = NDArray[np.float64]


class Prior(NamedTuple):
    """What is common to the arms: a variance, and the degrees of freedom that it counts as."""

    variance: float
    df: float


class Spread(NamedTuple):
    """An arm's variance and its degrees of freedom; of how many arms it is made, 1 where it is the
    arm's own."""

    variance: float
    df: float
    arms: int

    @property
    def deviation(self) -> float:
        return math.sqrt(self.variance)


def fit_prior(variances: Sequence[float] | Array, df: Sequence[float] | Array) -> Prior:
    """The scaled F law of sample variances, all above zero, by the mean and variance of their
    logarithms.

    Each counts by what its degrees of freedom say (Paule & Mandel 1982); where these are the same,
    it is Smyth's.
    """
    from scipy import optimize, special

    s2, d = np.asarray(variances, np.float64), np.asarray(df, np.float64)
    centred = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    noise = special.polygamma(1, d / 2)

    def mean(beyond: float) -> float:
        return float(np.average(centred, weights=1 / (noise + beyond)))

    def excess(beyond: float) -> float:
        return float(((centred - mean(beyond)) ** 2 / (noise + beyond)).sum() - (len(s2) - 1))

    if excess(0.0) <= 0:
        return Prior(float(np.average(s2, weights=d)), math.inf)
    # The sum falls below n - 1 where the variance alone is as large as the sum of squares.
    beyond = float(
        optimize.brentq(excess, 0.0, float(((centred - centred.mean()) ** 2).sum()) + 1.0)
    )
    if beyond < 1e-7:
        return Prior(float(np.average(s2, weights=d)), math.inf)
    half = float(
        optimize.brentq(lambda y: float(special.polygamma(1, y)) - beyond, 1e-8, 2 / beyond + 2)
    )
    return Prior(math.exp(mean(beyond) + float(special.digamma(half)) - math.log(half)), 2 * half)


def moderate(
    variances: Sequence[float],
    df: Sequence[float],
    scales: Sequence[float] | None = None,
    floor: float = 0.0,
) -> list[Spread]:
    """Each arm's spread, with what the others say of it.

    `scales` are what the arms' deviations go with: they are pooled in these units. `floor` is the
    least variance that can be seen, of the step to which figures are printed: below it an arm has
    not shown a smaller one. An arm that strays far more than the others do keeps its own variance,
    and has no say in theirs.
    """
    units = np.ones(len(variances)) if scales is None else np.asarray(scales, np.float64) ** 2
    s2, d = np.maximum(np.asarray(variances, np.float64), floor) / units, np.asarray(df, np.float64)
    pooled = _alike(s2, d)
    spreads = [Spread(float(s2[n] * units[n]), float(d[n]), 1) for n in range(len(s2))]
    if len(pooled) < 2 or not s2[pooled].all():
        return spreads
    prior = fit_prior(s2[pooled], d[pooled])
    common = max(prior.variance, float(np.average(s2[pooled], weights=d[pooled])))
    for n in pooled:
        # limma lets it count as all the others' runs: of two to five arms that is too sure.
        known = min(prior.df, float(d[pooled].sum() - d[n]) / 2)
        total = float(known + d[n])
        variance = (known * common + float(d[n] * s2[n])) / total
        spreads[n] = Spread(variance * float(units[n]), total, len(pooled))
    return spreads


def _alike(s2: Array, d: Array) -> list[int]:
    """The arms that stray alike: the one furthest above what the rest say is left out, until none
    is far."""
    from scipy import stats

    kept = list(range(len(s2)))
    while len(kept) > 2 and s2[kept].all():
        chances = {}
        for n in kept:
            rest = [other for other in kept if other != n]
            prior = fit_prior(s2[rest], d[rest])
            # Under the law a variance over the common one is as F says; how well that is known
            # counts too.
            chances[n] = float(
                stats.f.sf(s2[n] / prior.variance, d[n], min(prior.df, float(d[rest].sum())))
            )
        furthest = min(chances, key=chances.__getitem__)
        if chances[furthest] >= OUTLYING / len(s2):
            break
        kept.remove(furthest)
    return kept
