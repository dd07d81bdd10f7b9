"""The variance of an arm with few runs, estimated together with the other arms of its study.

Moderated variances: the sample variance s^2 of an arm, with d degrees of freedom, is shrunk towards
a variance s0^2 that is common to all arms and counts as d0 further degrees of freedom:
(d0 s0^2 + d s^2) / (d0 + d). d0 and s0 are estimated from the sample variances themselves, by the
moments of log s^2. Smyth 2004 (squeezeVar and fitFDist of limma).

Pooling is justified if the true variances of the arms are equal, or vary about a common one like a
scaled inverse chi-squared distribution with d0 degrees of freedom. d0 is infinite if the sample
variances vary no more than chi-squared predicts (then all of them are one estimate), and small if
the arms differ: a d0 of 1 adds as much information about an arm as one further run of it. Pooling
says nothing about a mean.

With few arms, d0 and s0 are uncertain, and treating them as known gives 95% intervals a coverage of
91% (four arms of two runs). `moderate` therefore has two safeguards: the common variance is no less
than the mean of the variances that it is made of, and it counts as at most half the degrees of
freedom of the other arms. If the true variances differ, the intervals hold on average over the
arms; the interval of the most variable arm is still too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

OUTLYING = 0.01
"""An arm keeps its own variance if that has a p-value below this, given the others (Bonferroni)."""

Values = NDArray[np.float64]


class Prior(NamedTuple):
    """The common variance of the arms, and the degrees of freedom that it counts as."""

    variance: float
    df: float


class Variance(NamedTuple):
    """The variance of an arm, its degrees of freedom, and the number of arms it is pooled over."""

    value: float
    df: float
    arms: int

    @property
    def std(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.value)


def fit_prior(variances: Sequence[float] | Values, df: Sequence[float] | Values) -> Prior:
    """Fit a scaled F distribution to sample variances above zero, by the moments of their logs.

    Each variance is weighted by the information in its degrees of freedom (Paule & Mandel 1982); if
    these are equal, the fit is that of Smyth.
    """
    s2, d = np.asarray(variances, np.float64), np.asarray(df, np.float64)
    centred = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    noise = special.polygamma(1, d / 2)

    def mean(between: float) -> float:
        return float(np.average(centred, weights=1 / (noise + between)))

    def excess(between: float) -> float:
        return float(((centred - mean(between)) ** 2 / (noise + between)).sum() - (len(s2) - 1))

    if excess(0.0) <= 0:
        return Prior(float(np.average(s2, weights=d)), math.inf)
    # The variance between the arms is below the sum of squares, at which the excess is negative.
    most = float(((centred - centred.mean()) ** 2).sum()) + 1.0
    between = float(scipy.optimize.brentq(excess, 0.0, most))
    if between < 1e-7:
        return Prior(float(np.average(s2, weights=d)), math.inf)
    half = float(
        scipy.optimize.brentq(
            lambda y: float(special.polygamma(1, y)) - between, 1e-8, 2 / between + 2
        )
    )
    log_variance = mean(between) + float(special.digamma(half)) - math.log(half)
    return Prior(math.exp(log_variance), 2 * half)


def moderate(
    variances: Sequence[float],
    df: Sequence[float],
    scales: Sequence[float] | None = None,
    floor: float = 0.0,
) -> list[Variance]:
    """Return the moderated variance of each arm.

    `scales` are proportional to the expected standard deviations of the arms: variances are pooled
    in these units. `floor` is the smallest variance that can be observed, from the precision to
    which figures are printed. An arm that varies far more than the others keeps its own variance
    and does not contribute to theirs.
    """
    units = np.ones(len(variances)) if scales is None else np.asarray(scales, np.float64) ** 2
    s2, d = np.maximum(np.asarray(variances, np.float64), floor) / units, np.asarray(df, np.float64)
    pooled = _without_outliers(s2, d)
    found = [Variance(float(s2[n] * units[n]), float(d[n]), 1) for n in range(len(s2))]
    if len(pooled) < 2 or not s2[pooled].all():
        return found
    prior = fit_prior(s2[pooled], d[pooled])
    common = max(prior.variance, float(np.average(s2[pooled], weights=d[pooled])))
    for n in pooled:
        # limma limits it to the degrees of freedom of all the others, too many for few arms.
        known = min(prior.df, float(d[pooled].sum() - d[n]) / 2)
        total = float(known + d[n])
        variance = (known * common + float(d[n] * s2[n])) / total
        found[n] = Variance(variance * float(units[n]), total, len(pooled))
    return found


def _without_outliers(s2: Values, d: Values) -> list[int]:
    """Return the arms to pool: the most outlying one is removed until none is outlying."""
    kept = list(range(len(s2)))
    while len(kept) > 2 and s2[kept].all():
        p_values = {n: _p_value(n, [other for other in kept if other != n], s2, d) for n in kept}
        smallest = min(p_values, key=p_values.__getitem__)
        if p_values[smallest] >= OUTLYING / len(s2):
            break
        kept.remove(smallest)
    return kept


def _p_value(arm: int, others: list[int], s2: Values, d: Values) -> float:
    """Return the probability of so large a variance of an arm, given the other arms.

    The ratio to the common variance has an F distribution, whose second degrees of freedom express
    how well the common variance is known.
    """
    prior = fit_prior(s2[others], d[others])
    known = min(prior.df, float(d[others].sum()))
    return float(scipy.stats.f.sf(s2[arm] / prior.variance, d[arm], known))
