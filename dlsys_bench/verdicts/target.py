"""How accurate a training has to become, from an arm's stored runs."""

from __future__ import annotations

from dlsys_bench.data import Dataset
from dlsys_bench.errors import UserError
from dlsys_bench.studies.base import Case
from dlsys_bench.timing.target import Target
from dlsys_bench.verdicts.gate import gate_for
from dlsys_bench.verdicts.sequential import rounded

MISSED = 0.01
"""How many healthy runs may end short of the target."""


def target_of(case: Case, dataset: Dataset, tier: str, missed: float = MISSED) -> Target:
    """The end, on the bad side, of the interval in which one new run ends its training with a
    chance of 1 - 2 * missed: `Band.interval` of the runs that the arm's gate holds new ones to,
    mean - t(1 - missed, n - 1) * spread * sqrt(1 + 1 / n) for a figure that is to be high. To seven
    digits, as figures are kept.

    So 1 - missed of healthy runs end at that level or better: by a normal law, and on the mean over
    the stored runs that there might have been. That it is enough to be as good at any look before
    the end makes it more of them.

    Errors: UserError where nothing can be asked of the arm there.
    """
    where = f"{case.name} on {dataset.name}, tier {tier}"
    if case.study.measure is not None:
        raise UserError(
            f"{where}: a run is more than one training, with no time to its {case.study.metric}"
        )
    sequential, _ = gate_for(case, dataset, tier)
    if unjudged := case.arm.reason_unjudged(dataset.name, tier):
        raise UserError(f"{where}: no target can be set: {unjudged}")
    band, metric = sequential.band, case.study.metric
    if band is None:
        raise UserError(f"{where}: no target can be set: {sequential.blind}")
    interval, at_most = band.interval(2 * missed), not metric.higher_is_better
    value = interval.high if at_most else interval.low
    return Target(
        metric.name,
        rounded(value),
        1 - missed,
        rounded(band.mean),
        rounded(band.spread),
        band.n,
        band.source,
        at_most,
    )
