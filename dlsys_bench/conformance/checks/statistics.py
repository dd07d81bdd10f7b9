"""Tests of random draws, with a false-alarm rate of one in a billion."""

from __future__ import annotations

import numpy as np
import scipy

from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.engines.plan import Array

ALPHA = 1e-9
"""The false-alarm rate of one test of a draw."""


def check_binomial(counts: Array, trials: int, probability: float, what: str) -> None:
    """Raise BrokenError unless counts have the mean and the variance of a binomial distribution."""
    n, mean = len(counts), trials * probability
    variance = mean * (1 - probability)
    z = (counts.mean() - mean) / np.sqrt(variance / n)
    where = {"layer": "dropout_1"}
    if 2 * scipy.stats.norm.sf(abs(z)) < ALPHA:
        values = {"actual": f"{counts.mean():.4g}", "expected": f"{mean:.4g}"}
        raise broken(Fault.WRONG_DISTRIBUTION, f"the mean of {what}", **values, **where)
    dispersion = float(((counts - mean) ** 2).sum() / variance)
    tails = scipy.stats.chi2.cdf(dispersion, n), scipy.stats.chi2.sf(dispersion, n)
    if 2 * min(tails) < ALPHA:
        actual = dispersion / n * variance
        cause = "too similar" if tails[0] < tails[1] else "too different: masks are used again"
        values = {"actual": f"{actual:.3g} ({cause})", "expected": f"{variance:.3g}"}
        raise broken(Fault.WRONG_DISTRIBUTION, f"the variance of {what}", **values, **where)
