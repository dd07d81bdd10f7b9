"""Bands: what an arm's figure should be, from stored runs, and whether new runs are inside.

A band is a prediction interval for the mean of m new runs, given n stored ones, all from one normal law:
mean +- t(1 - alpha / 2, n - 1) * spread * sqrt(1 / n + 1 / m). `alpha` is the chance that a healthy engine falls
outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.result import Result

FEWEST_RUNS = 3
SUITE_ALPHA = 1e-3


class Outcome(StrEnum):
    """What became of a judgement. UNJUDGED: the arm declares that this tier cannot judge it; it counts nowhere."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNJUDGED = "UNJUDGED"


class Interval(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """An arm's stored runs as one law: mean and spread (sample standard deviation) of n figures."""

    mean: float
    spread: float
    n: int
    source: str

    @classmethod
    def of(cls, values: Sequence[float], source: str, resolution: float = 0.0) -> Band:
        """The band of these figures. `resolution` is the smallest step the figure can take (1 / test samples): runs
        that happen to agree to the last step have not shown a spread of zero."""
        figures = np.asarray(values, np.float64)
        spread = max(float(figures.std(ddof=1)), resolution / math.sqrt(12.0))
        return cls(float(figures.mean()), spread, len(figures), source)

    def interval(self, alpha: float, runs: int = 1) -> Interval:
        """Where the mean of so many new runs falls but for a fraction alpha of the time."""
        half = self._quantile(alpha / 2) * self._error(runs)
        return Interval(self.mean - half, self.mean + half)

    def chance(self, value: float) -> float:
        """How often one new run lies as far from the mean as this, or further."""
        from scipy import stats

        return 2.0 * float(stats.t.sf(abs(value - self.mean) / self._error(1), self.n - 1))

    def smallest_shift(self, alpha: float, beta: float = 0.1, runs: int = 1) -> float:
        """The shift of the mean that falls outside with probability 1 - beta, averaged over bands of n stored runs."""
        return (self._quantile(alpha / 2) + self._quantile(beta)) * self._error(runs)

    def _error(self, runs: int) -> float:
        return self.spread * math.sqrt(1.0 / self.n + 1.0 / runs)

    def _quantile(self, tail: float) -> float:
        from scipy import stats

        return float(stats.t.isf(tail, self.n - 1))


@dataclass(frozen=True)
class Verdict:
    """One arm of one engine, judged. `replay` is the command that runs it again."""

    study: str
    arm: str
    dataset: str
    tier: str
    engine: str
    device: str
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    outcome: Outcome
    reason: str
    replay: str
    band: Band | None = None
    interval: Interval | None = None
    alpha: float | None = None
    smallest_shift: float | None = None

    @property
    def measured(self) -> float | None:
        """The mean of the runs; None if one of them did not finish."""
        return float(np.mean(self.values)) if self.values else None

    def message(self) -> str:
        """What was measured, the band, where the band comes from, how to replay."""
        return f"{self.study}/{self.arm} on {self.dataset}, {self.engine}: {self.reason}\n  replay: {self.replay}"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        band, interval = self.band, self.interval
        return {
            **{name: getattr(self, name) for name in ("study", "arm", "dataset", "tier", "engine", "device", "metric")},
            "seeds": list(self.seeds), "values": list(self.values), "measured": self.measured,
            "outcome": self.outcome.value, "reason": self.reason, "replay": self.replay, "alpha": self.alpha,
            "band": {"low": interval.low, "high": interval.high, "mean": band.mean, "spread": band.spread, "n": band.n,
                     "source": band.source, "smallest_shift": self.smallest_shift} if band and interval else None,
        }  # fmt: skip


def judge(
    results: Sequence[Result], reference: Sequence[Result], metric: str, *, alpha: float, source: str, replay: str,
    unjudged: str | None = None, resolution: float = 0.0, bound: float | None = None,
    may_diverge: bool = False,
) -> Verdict:  # fmt: skip
    """Judge the runs of one arm by one engine against the stored runs of the same arm.

    FAIL if a run diverged (UNJUDGED for an arm that may), the mean lies outside the band, or a figure of an arm with a
    `bound` above that; UNJUDGED where the arm says so of itself, INCONCLUSIVE where too few runs are stored; PASS
    otherwise. The two sets must share no seed on one engine: a run cannot vouch for itself.
    """
    first = results[0]
    values = tuple(value for run in results if (value := run.metric(metric)) is not None)
    known = [value for run in reference if (value := run.metric(metric)) is not None]
    shared = {(run.engine, run.seed) for run in results} & {(run.engine, run.seed) for run in reference}
    band = interval = shift = None
    if len(known) >= FEWEST_RUNS:
        band = Band.of(known, source, resolution)
        interval, shift = band.interval(alpha, len(results)), band.smallest_shift(alpha, runs=len(results))

    def verdict(outcome: Outcome, reason: str) -> Verdict:
        return Verdict(
            first.study, first.arm, first.dataset, first.tier, first.engine, first.device, metric,
            tuple(run.seed for run in results), values, outcome, reason, replay, band, interval, alpha, shift,
        )  # fmt: skip

    broken = next((run for run in results if run.status != "finished"), None)
    if broken is not None:
        return verdict(Outcome.UNJUDGED if may_diverge else Outcome.FAIL, f"seed {broken.seed}: {broken.reason}")
    if bound is not None:
        inside = max(values) <= bound
        where = f"{metric} {max(values):.2g} is {'within' if inside else 'above'} {bound:g}, what arithmetic allows"
        return verdict(Outcome.PASS if inside else Outcome.FAIL, where)
    if shared:
        return verdict(Outcome.INCONCLUSIVE, f"seed {min(s for _, s in shared)} is one of those the band is made of")
    if unjudged is not None:
        return verdict(Outcome.UNJUDGED, unjudged)
    if band is None or interval is None:
        return verdict(
            Outcome.INCONCLUSIVE,
            f"{len(known)} reference runs in {source}, a band needs {FEWEST_RUNS}: "
            "dlsys-bench run --reference stores more",
        )
    measured = float(np.mean(values))
    inside = interval.low <= measured <= interval.high
    runs = f"{metric} {measured:.4f}" + (f" (mean of {len(values)} seeds)" if len(values) > 1 else "")
    where = (
        f"{runs} is {'inside' if inside else 'outside'} [{interval.low:.4f}, {interval.high:.4f}], "
        f"the band of {band.n} stored runs "
        f"(mean {band.mean:.4f}, spread {band.spread:.4f}, alpha {alpha:.1e}; {source})"
    )
    return verdict(Outcome.PASS if inside else Outcome.FAIL, where)
