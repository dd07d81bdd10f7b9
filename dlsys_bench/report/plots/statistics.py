"""The statistics of the plots: confidence intervals, smoothing and percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from dlsys_bench.verdicts.difference import LEVEL


class Estimate(NamedTuple):
    """A value and its confidence interval. Both ends are the value if there is no interval."""

    value: float
    low: float
    high: float

    @property
    def bars(self) -> tuple[list[float], list[float]]:
        """The lengths of the error bars below and above the value."""
        return [max(self.value - self.low, 0.0)], [max(self.high - self.value, 0.0)]


def mean(values: Sequence[float], *, logarithmic: bool = False) -> Estimate:
    """Return the mean of the values and its interval by Student's t distribution.

    `logarithmic` computes both from the logarithms, which gives the geometric mean. A single value
    has no interval.
    """
    known = np.log(values) if logarithmic else np.asarray(values, np.float64)
    middle, reach = float(known.mean()), 0.0
    if len(known) > 1:
        reach = float(
            scipy.stats.t.ppf(0.5 + LEVEL / 2, len(known) - 1)
            * known.std(ddof=1)
            / np.sqrt(len(known))
        )
    ends = (middle, middle - reach, middle + reach)
    return Estimate(*(float(np.exp(end)) for end in ends)) if logarithmic else Estimate(*ends)


def fraction(count: int, of: int) -> Estimate:
    """Return a fraction and its Clopper-Pearson interval, which is [0, 1] if `of` is 0."""
    if not of:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1 - LEVEL) / 2
    low = float(scipy.stats.beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(scipy.stats.beta.isf(tail, count + 1, of - count)) if count < of else 1.0
    return Estimate(count / of, low, high)


def smooth(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the moving average of the finite values, (N,) -> (N,).

    The window is centred, and shorter at the ends. The average is NaN where the window has no
    finite value.
    """
    every = np.asarray(values, np.float64)
    finite = np.isfinite(every)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, every, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    here = np.arange(len(every))
    reach = (window - 1) // 2
    low, high = np.maximum(here - reach, 0), np.minimum(here + reach + 1, len(every))
    number = counts[high] - counts[low]
    return np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), np.nan)


def percentile(counts: Sequence[int], value: int) -> float:
    """Return the percentile of a value, given the count of each value; ties count half."""
    every = np.asarray(counts)
    return float(100 * (every[:value].sum() + 0.5 * every[value]) / every.sum())


def from_quantiles(quantiles: Sequence[float], number: int = 2000) -> NDArray[np.float64]:
    """Return values spaced evenly in the distribution with these equally spaced quantiles."""
    levels = np.linspace(0.0, 1.0, len(quantiles))
    return np.interp((np.arange(number) + 0.5) / number, levels, quantiles)
