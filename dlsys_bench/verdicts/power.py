"""What a gate can see and what it costs, before it is run: for each arm, from its stored runs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from statistics import median
from typing import Any

from dlsys_bench.data import Dataset
from dlsys_bench.runs.key import Key
from dlsys_bench.studies.base import Case
from dlsys_bench.verdicts.design import Operating
from dlsys_bench.verdicts.gate import DEFAULT, Terms, gate_for


@dataclass(frozen=True)
class Power:
    """One arm's gate. `smallest_shift` is what it sees with a chance of 1 - beta, in the metric's
    units, infinite where it sees nothing; `healthy` how it ends where there is no shift;
    `fixed_seeds` what a test that looks once takes for the same; `seconds` of one stored run
    (median). `unjudged` says why an arm is not judged."""

    key: Key
    metric: str
    stored: int
    alpha: float
    beta: float
    max_seeds: int
    mean: float | None = None
    spread: float | None = None
    smallest_shift: float = inf
    healthy: Operating | None = None
    fixed_seeds: int | None = None
    seconds: float | None = None
    unjudged: str | None = None

    @property
    def minutes(self) -> float | None:
        """What a healthy gate costs on average, in minutes of the machine that stored the runs."""
        if self.healthy is None or self.seconds is None:
            return None
        return self.healthy.mean_seeds * self.seconds / 60

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values."""
        values = self.key.to_dict("study", "arm", "dataset", "tier")
        values |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "key"}
        values["smallest_shift"] = self.smallest_shift if isfinite(self.smallest_shift) else None
        return values | {
            "healthy": self.healthy._asdict() if self.healthy else None,
            "minutes": self.minutes,
        }


def power(case: Case, dataset: Dataset, tier: str, terms: Terms = DEFAULT) -> Power:
    """What the gate of one arm sees at these terms, alpha being this gate's own share. Errors:
    UserError."""
    sequential, stored = gate_for(case, dataset, tier, terms)
    bound = "what arithmetic allows" if case.arm.bound is not None else None
    unjudged = bound or case.arm.reason_unjudged(dataset.name, tier)
    band, found = (
        sequential.band,
        Power(
            Key(case.study.name, case.arm.name, dataset.name, tier),
            case.study.metric.name,
            len(stored),
            terms.alpha,
            terms.beta,
            terms.max_seeds,
            unjudged=unjudged,
            seconds=median(run.seconds for run in stored) if stored else None,
        ),
    )
    if band is None:
        return found
    found = replace(found, mean=band.mean, spread=band.spread)
    if unjudged or sequential.blind:
        return found
    spreads = sequential.shift / band.spread
    return replace(
        found,
        smallest_shift=sequential.shift,
        healthy=sequential.design.operating(spreads),
        fixed_seeds=sequential.design.fixed_seeds(spreads),
    )
