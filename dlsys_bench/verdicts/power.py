"""The power of a gate and its cost, from the reference runs, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from statistics import median
from typing import Any

from dlsys_bench.data import Dataset
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Case
from dlsys_bench.verdicts.gate import DEFAULT, Terms, gate_for
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.simulation import OperatingCharacteristics
from dlsys_bench.verdicts.training_gate import find_metric, gate_for_training

CERTAIN_SHIFT = 1e6
"""A shift, in standard deviations, that no reference run reaches."""


@dataclass(frozen=True)
class Power:
    """The gate of one arm: its reference runs, its error rates, its power, and its cost.

    - `stored`, `mean`, `std`: the number of reference runs, and the moments of their figure.
    - `smallest_shift`: the minimum detectable effect (MDE), the shift that fails with probability
      1 - beta, in the units of the metric; infinite if none does.
    - `healthy`: how the gate ends if there is no shift.
    - `fixed_seeds`: the seeds that a test of the same power needs which looks once, at its end.
    - `seconds`: the median duration of the reference runs.
    - `unjudged`: the reason why the arm is not judged, or None.
    """

    key: Key
    metric: str
    stored: int
    alpha: float
    beta: float
    max_seeds: int
    mean: float | None = None
    std: float | None = None
    smallest_shift: float = inf
    healthy: OperatingCharacteristics | None = None
    fixed_seeds: int | None = None
    seconds: float | None = None
    unjudged: str | None = None

    @property
    def minutes(self) -> float | None:
        """The mean cost of a healthy gate, in minutes of the machine that made the reference."""
        if self.healthy is None or self.seconds is None:
            return None
        return self.healthy.mean_seeds * self.seconds / 60

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON values; the JSON calls the standard deviation "spread"."""
        values = self.key.to_dict("study", "arm", "dataset", "tier")
        for field in fields(self)[1:]:
            values[{"std": "spread"}.get(field.name, field.name)] = getattr(self, field.name)
        values["smallest_shift"] = self.smallest_shift if isfinite(self.smallest_shift) else None
        return values | {
            "healthy": self.healthy._asdict() if self.healthy else None,
            "minutes": self.minutes,
        }


def power(case: Case, dataset: Dataset, tier: str, terms: Terms = DEFAULT) -> Power:
    """Return the power of the gate of one arm, whose own false-alarm rate is `terms.alpha`.

    Raises UserError if the terms are invalid, or if the requested shift cannot be detected.
    """
    sequential, stored = gate_for(case, dataset, tier, terms)
    limit = case.arm.bound
    bound = f"judged by the rounding bound {limit:g}" if limit is not None else None
    unjudged = bound or case.arm.reason_unjudged(dataset.name, tier)
    key = Key(case.study.name, case.arm.name, dataset.name, tier)
    return _power(key, case.study.metric.name, sequential, stored, terms, unjudged)


def power_of_training(
    name: str,
    reference: Sequence[Result],
    metric: str | None = None,
    terms: Terms = DEFAULT,
    source: str = "the reference",
) -> Power:
    """Return the power of the gate of a user's own training. Raises UserError as that does."""
    judged = find_metric(reference, metric, source)
    sequential = gate_for_training(reference, judged, terms, source)
    having = [run for run in reference if run.status != "finished" or judged.name in run.figures]
    return _power(Key(name, engine=CALLABLE), judged.name, sequential, having, terms)


def _power(
    key: Key,
    metric: str,
    sequential: SequentialGate,
    stored: Sequence[Result],
    terms: Terms,
    unjudged: str | None = None,
) -> Power:
    """Return the power of a gate."""
    if unjudged is None:
        sequential.check_shift()
    found = Power(
        key,
        metric,
        len(stored),
        terms.alpha,
        terms.beta,
        terms.max_seeds,
        unjudged=unjudged,
        seconds=median(run.seconds for run in stored) if stored else None,
    )
    band = sequential.band
    if band is None:
        return found
    found = replace(found, mean=band.mean, std=band.std)
    if unjudged or sequential.obstacle:
        return found
    # Of reference runs that are all equal, every shift is as good as infinite.
    shift = sequential.shift / sequential.scale if sequential.scale else CERTAIN_SHIFT
    return replace(
        found,
        smallest_shift=sequential.shift,
        healthy=sequential.design.operating(shift),
        fixed_seeds=sequential.design.fixed_seeds(shift),
    )
