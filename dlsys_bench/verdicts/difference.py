"""The difference of two sets of runs in a figure, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.spread import Spread

LEVEL = 0.95
FEWEST_PAIRS = 3
"""So many seeds in common are compared in pairs; and a spread of fewer runs than this does not
stand by itself."""
POWER = 0.8


class Difference(NamedTuple):
    """The mean of a minus b, its 95% interval, the chance of as much where there is none, and how
    it was taken: with the standard error and the degrees of freedom that both come from (0 where
    all runs are alike), and of how many pairs (0 where it is not of pairs)."""

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
        return self.low, self.high

    def within(self, margin: float) -> float:
        """The larger p of two one-sided tests, that the difference is not inside +-margin
        (Schuirmann 1987)."""
        room = margin - abs(self.mean)
        return float(stats.t.sf(room / self.error, self.df)) if self.error else float(room <= 0)


def difference(
    a: Sequence[Result],
    b: Sequence[Result],
    metric: str,
    spreads: tuple[Spread, Spread] | None = None,
) -> Difference:
    """The mean difference a - b by Student's t: paired where the seeds are the same, else by Welch.

    Two runs do not have a spread of their own: they are judged by `spreads`, of each side with the
    other arms of its study, or by one spread of both sides. Of runs of one seed the last counts.
    Each side has two runs at least.
    """
    by_seed = [
        {run.seed: value for run in runs if (value := run.metric(metric)) is not None}
        for runs in (a, b)
    ]
    shared = pairs_of(*by_seed)
    if shared:
        return mean_difference(
            [by_seed[0][seed] - by_seed[1][seed] for seed in shared], f"{len(shared)} pairs"
        )
    x, y = (np.array(list(values.values())) for values in by_seed)
    mean, (v, w), (n, m) = (
        float(x.mean() - y.mean()),
        (x.var(ddof=1), y.var(ddof=1)),
        (len(x), len(y)),
    )
    if (
        min(n, m) < FEWEST_PAIRS
        and spreads is not None
        and max(spread.arms for spread in spreads) > 1
    ):
        error = math.sqrt(spreads[0].variance / n + spreads[1].variance / m)
        # Both may rest on one estimate of what is common, which must not count twice.
        df = min(spread.df for spread in spreads)
        arms = " and ".join(dict.fromkeys(str(spread.arms) for spread in spreads))
        return _students(
            mean, error, df, f"{n} and {m} runs, spread pooled over {arms} arms, d.f. {df:.1f}"
        )
    if max(n, m) < FEWEST_PAIRS:
        error, df = (
            math.sqrt((v * (n - 1) + w * (m - 1)) / (n + m - 2) * (1 / n + 1 / m)),
            n + m - 2,
        )
        return _students(mean, error, df, f"{n} and {m} runs, one spread of both")
    error = math.sqrt(v / n + w / m)
    df = error**4 / ((v / n) ** 2 / (n - 1) + (w / m) ** 2 / (m - 1)) if error else 0.0
    return _students(mean, error, df, f"Welch, {n} and {m} runs")


def pairs_of(a: Mapping[int, float], b: Mapping[int, float]) -> list[int]:
    """The seeds that two sets of figures are paired by; none where they are few, or most runs are
    of other seeds."""
    shared = sorted(set(a) & set(b))
    return shared if len(shared) >= FEWEST_PAIRS and 2 * len(shared) >= min(len(a), len(b)) else []


def mean_difference(values: Sequence[float], how: str) -> Difference:
    """The mean of differences, against none."""
    mean = float(np.mean(values))
    if np.ptp(values) <= 1e-12 * max(np.abs(values)):
        # All alike, but for rounding: there is nothing to estimate a spread from.
        return _students(mean, 0.0, 0.0, how)._replace(pairs=len(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return _students(mean, error, len(values) - 1, how)._replace(pairs=len(values))


def _students(mean: float, error: float, df: float, how: str) -> Difference:
    """A difference from its standard error."""
    if not error:
        return Difference(mean, mean, mean, float(mean == 0.0), how)
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return Difference(
        mean,
        mean - half,
        mean + half,
        2 * float(stats.t.sf(abs(mean) / error, df)),
        how,
        error,
        float(df),
    )


def more_runs(gap: Difference, runs: int, margin: float, alpha: float, tests: int) -> int | None:
    """How many more of each side place it inside the margin, or part it from none among so many
    tests, with a chance of POWER, if mean and spread stay; None: more than a thousand."""
    more = np.arange(1, 1001)
    have = gap.pairs or runs
    error, df = gap.error * np.sqrt(have / (have + more)), have + more - 1
    likely = stats.t.ppf(POWER, df)
    same = (margin - abs(gap.mean)) / error >= stats.t.isf(alpha, df) + likely
    apart = abs(gap.mean) / error >= stats.t.isf(alpha / tests / 2, df) + likely
    enough = more[same | apart]
    return int(enough[0]) if len(enough) else None


def holm(chances: Sequence[float | None]) -> list[float | None]:
    """Each p, so that under alpha over all of them together it is under alpha. None counts for
    nothing. Holm 1979."""
    order = sorted((p, n) for n, p in enumerate(chances) if p is not None)
    adjusted: list[float | None] = [None] * len(chances)
    highest = 0.0
    for rank, (p, n) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[n] = highest
    return adjusted
