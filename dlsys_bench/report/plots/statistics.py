"""The numbers behind the pictures: intervals, smoothing, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlsys_bench.verdicts.difference import LEVEL


class Estimate(NamedTuple):
    """A value and the ends of its interval; where nothing bounds it, the ends are the value."""

    value: float
    low: float
    high: float

    @property
    def bars(self) -> tuple[list[float], list[float]]:
        """How far the interval reaches down and up, as error bars take it."""
        return [max(self.value - self.low, 0.0)], [max(self.high - self.value, 0.0)]


def mean(values: Sequence[float], *, logarithmic: bool = False) -> Estimate:
    """The mean of runs and its Student t interval; of one run the value alone. `logarithmic` takes
    both of the logarithms: the geometric mean, for an axis that is logarithmic."""
    from scipy import stats

    known = np.log(values) if logarithmic else np.asarray(values, np.float64)
    middle, reach = float(known.mean()), 0.0
    if len(known) > 1:
        reach = float(
            stats.t.ppf(0.5 + LEVEL / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
        )
    ends = (middle, middle - reach, middle + reach)
    return Estimate(*(float(np.exp(end)) for end in ends)) if logarithmic else Estimate(*ends)


def fraction(count: int, of: int) -> Estimate:
    """A fraction and its Clopper-Pearson interval; of none it is anything."""
    from scipy import stats

    if not of:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1 - LEVEL) / 2
    low = float(stats.beta.ppf(tail, count, of - count + 1)) if count else 0.0
    high = float(stats.beta.isf(tail, count + 1, of - count)) if count < of else 1.0
    return Estimate(count / of, low, high)


def smooth(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """The mean of the `window` values about each, near the ends of those there are. (N,) -> (N,).
    What is not finite stays out; where nothing else is near, the mean is nan."""
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
    """Where a value lies among counted ones, 0 to 100; those equal to it count by half."""
    every = np.asarray(counts)
    return float(100 * (every[:value].sum() + 0.5 * every[value]) / every.sum())


def from_quantiles(quantiles: Sequence[float], number: int = 2000) -> NDArray[np.float64]:
    """As many values, evenly drawn from the law whose quantiles are at equal steps from 0 to 1."""
    levels = np.linspace(0.0, 1.0, len(quantiles))
    return np.interp((np.arange(number) + 0.5) / number, levels, quantiles)
