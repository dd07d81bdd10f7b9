"""The level of a metric that a training has to reach, from the reference runs of an arm."""

from __future__ import annotations

from dlsys_bench.data import Dataset
from dlsys_bench.errors import UserError
from dlsys_bench.studies.base import Case
from dlsys_bench.timing.target import Target
from dlsys_bench.verdicts.figures import rounded
from dlsys_bench.verdicts.gate import gate_for

MISSED = 0.01
"""The fraction of healthy runs that may end short of the target."""


def target_of(case: Case, dataset: Dataset, tier: str, missed: float = MISSED) -> Target:
    """Return the target of an arm: the worse end of the prediction interval of one run.

    The interval has level 1 - 2 * missed and is that of the band of the gate (`Band.interval`). For
    a metric that is better when it is higher the target is
    mean - t(1 - missed, n - 1) * std * sqrt(1 + 1 / n), rounded to seven digits as stored figures
    are. If figures are normally distributed, a fraction 1 - missed of healthy runs ends at that
    level or better, on average over the reference runs. More of them reach it, since a run counts
    if it is as good at any look before its end.

    Raises UserError if the arm has no target there.
    """
    where = f"{case.name} on {dataset.name}, tier {tier}"
    metric = case.study.metric
    if case.study.measure is not None:
        raise UserError(f"{where}: a run is more than one training, with no time to its {metric}")
    sequential, _ = gate_for(case, dataset, tier)
    if unjudged := case.arm.reason_unjudged(dataset.name, tier):
        raise UserError(f"{where}: no target can be set: {unjudged}")
    band = sequential.band
    if band is None:
        raise UserError(f"{where}: no target can be set: {sequential.obstacle}")
    interval = band.interval(2 * missed)
    return Target(
        metric.name,
        rounded(interval.low if metric.higher_is_better else interval.high),
        1 - missed,
        rounded(band.mean),
        rounded(band.std),
        band.n,
        band.source,
        not metric.higher_is_better,
    )
