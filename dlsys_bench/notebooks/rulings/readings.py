"""Other readings of a notebook, tried before a figure is ruled not reproduced.

Where a notebook's listing is cut off, or its output shows a chance event of its run, the source
allows more than one protocol. A figure outside of its interval is compared by each of them too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlsys_bench.notebooks.rulings.pool import Prediction
from dlsys_bench.notebooks.rulings.runs import FEWEST, ArmName, Runs, figures, metric_of
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling
from dlsys_bench.verdicts.difference import LEVEL
from dlsys_bench.verdicts.variance import Values

CHANCE = 0.2
"""The running accuracy of ten classes above which a network has left chance level."""

LEFT_CHANCE = 5
"""The epoch in which the published run of nb4 with dropout left chance level."""


@dataclass(frozen=True)
class OtherReading:
    """Another reading: its name, and the figures of a claim by it."""

    name: str
    figures: Callable[[Claim, Runs], Values]


def _with_padding_same(claim: Claim, runs: Runs) -> Values:
    past = runs.superseded(claim["study"], claim["arm"])
    return figures(past, metric_of(claim), claim.get("epoch"))


def _since_chance(claim: Claim, runs: Runs) -> Values:
    """Take the figures at the epoch that is as long after leaving chance level as the published
    one."""
    after = claim["epoch"] - LEFT_CHANCE
    found = [
        figures([run], metric_of(claim), _left_chance(run) + after) for run in runs.for_claim(claim)
    ]
    return np.concatenate([np.zeros(0), *found])


def _left_chance(run: Result) -> int:
    """Return the first epoch above chance level; one beyond the last if there is none."""
    above = (epoch.epoch for epoch in run.history if (epoch.running_accuracy or 0.0) > CHANCE)
    return next(above, len(run.history) + 1)


PADDING = OtherReading('padding "same" of the first convolution', _with_padding_same)
READINGS: dict[ArmName, Sequence[OtherReading]] = {
    ("regularization/lenet5-sigmoid", "standard+bn"): (PADDING,),
    ("regularization/lenet5-sigmoid", "bn+bn"): (PADDING,),
    ("regularization/lenet5-sigmoid", "bn+dropout"): (PADDING,),
    ("regularization/lenet5-sigmoid", "dropout"): (
        PADDING,
        OtherReading(
            f"epochs counted from leaving chance level, published in epoch {LEFT_CHANCE}",
            _since_chance,
        ),
    ),
}
"""The other readings that a notebook allows, by study and arm."""


def try_readings(judged: Judged, runs: Runs, one: Prediction) -> Judged:
    """Return a ruling of NOT_REPRODUCED with the figures by each other reading in its reason, and
    as REPRODUCED if one of them has the published figure in its interval."""
    claim = judged.claim
    if judged.ruling is not Ruling.NOT_REPRODUCED:
        return judged
    for reading in READINGS.get((claim["study"], claim.get("arm", "")), ()):
        values = reading.figures(claim, runs)
        if len(values) < FEWEST:
            continue
        read = one.of_other_runs(values)
        p = read.p_value(claim["value"])
        inside = p >= 1 - LEVEL
        tried = (
            f"by {reading.name} {read.mean:.4f} ± {read.deviation:.4f}, {read.n} runs: "
            f"{'inside' if inside else 'outside'}"
        )
        judged = replace(judged, reason=f"{judged.reason}; {tried}")
        if inside:
            return replace(judged, ruling=Ruling.REPRODUCED, p=p)
    return judged
