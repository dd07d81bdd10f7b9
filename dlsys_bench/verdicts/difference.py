"""The difference between two sets of runs in a figure, with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.correlation import (
    FEWEST_PAIRS,
    Correlation,
    FiguresBySeed,
    common_seeds,
    correlation,
    seeds_to_pair,
)
from dlsys_bench.verdicts.variance import Variance

LEVEL = 0.95
POWER = 0.8


class Difference(NamedTuple):
    """The mean of a minus b, its 95% interval, its p-value, and how it was tested.

    `error` is the standard error and `df` its degrees of freedom, both 0 if all runs are equal;
    `pairs` is the number of pairs, 0 for an unpaired test.
    """

    mean: float
    low: float
    high: float
    p: float
    how: str
    error: float = 0.0
    df: float = 0.0
    pairs: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval."""
        return self.low, self.high

    def within(self, margin: float) -> float:
        """Return the p-value of equivalence: the larger one of two one-sided tests.

        The null hypothesis is a difference of at least +-margin (Schuirmann 1987).
        """
        room = margin - abs(self.mean)
        return (
            float(scipy.stats.t.sf(room / self.error, self.df)) if self.error else float(room <= 0)
        )


def difference(
    a: Sequence[Result],
    b: Sequence[Result],
    metric: str,
    variances: tuple[Variance, Variance] | None = None,
    at_equal_seeds: Correlation | None = None,
) -> Difference:
    """Test the mean difference a - b by Student's t, paired if runs of equal seed correlate.

    Otherwise, it is Welch's test of all runs. `at_equal_seeds` is that correlation, by default
    estimated from these runs; see `seeds_to_pair`. Fewer than three runs have no variance of their
    own: `variances` are then used, pooled over the arms of each side's study, or one variance of
    both sides. If a seed is repeated, its last run counts. Each side needs at least two runs.
    """
    by_seed = [figures_by_seed(runs, metric) for runs in (a, b)]
    found = at_equal_seeds or correlation([(by_seed[0], by_seed[1])])
    if seeds_to_pair(by_seed[0], by_seed[1], found):
        values = paired_differences(*by_seed)
        return mean_difference(values, f"{len(values)} pairs")
    x, y = (np.array(list(values.values())) for values in by_seed)
    few = min(len(x), len(y)) < FEWEST_PAIRS
    if few and variances is not None and max(variance.arms for variance in variances) > 1:
        return _pooled_over_arms(x, y, variances)
    if max(len(x), len(y)) < FEWEST_PAIRS:
        return _pooled_over_sides(x, y)
    return _welch(x, y)


def figures_by_seed(runs: Sequence[Result], metric: str) -> dict[int, float]:
    """Return the figure of each run that has it, by seed; the last one of each seed."""
    return {run.seed: value for run in runs if (value := run.metric(metric)) is not None}


def paired_differences(a: FiguresBySeed, b: FiguresBySeed) -> list[float]:
    """Return a minus b at each seed that both have."""
    return [a[seed] - b[seed] for seed in common_seeds(a, b)]


def mean_difference(values: Sequence[float], how: str) -> Difference:
    """Test the mean of differences against zero."""
    mean = float(np.mean(values))
    if np.ptp(values) <= 1e-12 * max(np.abs(values)):
        # All are equal but for rounding, so that there is no variance to estimate.
        return _students(mean, 0.0, 0.0, how)._replace(pairs=len(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return _students(mean, error, len(values) - 1, how)._replace(pairs=len(values))


def _pooled_over_arms(
    x: NDArray[np.float64], y: NDArray[np.float64], variances: tuple[Variance, Variance]
) -> Difference:
    """Test with variances that are pooled over the arms of each side's study."""
    n, m = len(x), len(y)
    error = math.sqrt(variances[0].value / n + variances[1].value / m)
    # Both may contain one common estimate, which must not count twice.
    df = min(variance.df for variance in variances)
    arms = " and ".join(dict.fromkeys(str(variance.arms) for variance in variances))
    how = f"{n} and {m} runs, variance pooled over {arms} arms, d.f. {df:.1f}"
    return _students(float(x.mean() - y.mean()), error, df, how)


def _pooled_over_sides(x: NDArray[np.float64], y: NDArray[np.float64]) -> Difference:
    """Test with one variance of both sides."""
    (v, w), (n, m) = (x.var(ddof=1), y.var(ddof=1)), (len(x), len(y))
    df = n + m - 2
    error = math.sqrt((v * (n - 1) + w * (m - 1)) / df * (1 / n + 1 / m))
    return _students(
        float(x.mean() - y.mean()), error, df, f"{n} and {m} runs, one variance of both"
    )


def _welch(x: NDArray[np.float64], y: NDArray[np.float64]) -> Difference:
    """Test with a variance of each side."""
    (v, w), (n, m) = (x.var(ddof=1), y.var(ddof=1)), (len(x), len(y))
    error = math.sqrt(v / n + w / m)
    # The share of x in the variance: the fourth power of the error may be no float.
    share = v / n / (v / n + w / m) if error else 0.0
    df = 1 / (share**2 / (n - 1) + (1 - share) ** 2 / (m - 1)) if error else 0.0
    return _students(float(x.mean() - y.mean()), error, df, f"Welch, {n} and {m} runs")


def _students(mean: float, error: float, df: float, how: str) -> Difference:
    """Return a difference with the interval and the p-value of Student's t."""
    if not error:
        return Difference(mean, mean, mean, float(mean == 0.0), how)
    half = float(scipy.stats.t.ppf((1 + LEVEL) / 2, df)) * error
    p = 2 * float(scipy.stats.t.sf(abs(mean) / error, df))
    return Difference(mean, mean - half, mean + half, p, how, error, float(df))


def more_runs(found: Difference, runs: int, margin: float, alpha: float, tests: int) -> int | None:
    """Return the number of further runs of each side that would decide a comparison.

    That many place the difference inside the margin, or make it significant among `tests` tests,
    with probability POWER if mean and standard deviation stay as they are. Returns None if a
    thousand would not.
    """
    more = np.arange(1, 1001)
    have = found.pairs or runs
    # Of two sides that are not paired, both have degrees of freedom.
    error = found.error * np.sqrt(have / (have + more))
    df = (1 if found.pairs else 2) * (have + more - 1)
    likely = scipy.stats.t.ppf(POWER, df)
    same = (margin - abs(found.mean)) / error >= scipy.stats.t.isf(alpha, df) + likely
    differs = abs(found.mean) / error >= scipy.stats.t.isf(alpha / tests / 2, df) + likely
    enough = more[same | differs]
    return int(enough[0]) if len(enough) else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values adjusted for the family of tests (Holm 1979); None is no test."""
    order = sorted((p, n) for n, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, n) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[n] = highest
    return adjusted
