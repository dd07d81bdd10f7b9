"""The arguments of an accuracy gate, and what they mean for each judged metric."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, TypeVar

from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import Train, name_of
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.gate import Terms, share

T = TypeVar("T")
Reference = str | Path | Sequence[float]
Metrics = str | Metric | Sequence[str | Metric] | None


class Directions(TypedDict, total=False):
    """Further arguments of an accuracy gate."""

    better: str | Mapping[str, str] | None
    side: str | Mapping[str, str]
    smallest_drop: float | None


@dataclass(frozen=True)
class GateArguments:
    """The arguments of one call of `accuracy_gate`; None stands for the value of the session."""

    train: Train
    reference: Reference
    metric: Metrics
    smallest_shift: float | Mapping[str, float] | None
    better: str | Mapping[str, str] | None
    side: str | Mapping[str, str]
    max_seeds: int | None
    first_seed: int | None

    @property
    def name(self) -> str:
        """The name of the training."""
        return name_of(self.train)

    @property
    def is_local(self) -> bool:
        """True for a function inside another, which no command finds by its name."""
        return "<" in self.name

    @property
    def metrics(self) -> tuple[str | Metric | None, ...]:
        """The judged metrics; None is that of a training which returns only one."""
        if self.metric is None or isinstance(self.metric, str | Metric):
            return (self.metric,)
        return tuple(self.metric)

    def check(self) -> None:
        """Raise a UserError if no metric is named, or a mapping has the name of another metric."""
        names = [str(each) for each in self.metrics if each is not None]
        if not self.metrics:
            raise UserError("metric names no metric")
        for values in (self.smallest_shift, self.better, self.side):
            unknown = set(values) - set(names) if isinstance(values, Mapping) else set()
            if unknown:
                raise UserError(
                    f"accuracy_gate got a value for {sorted(unknown)[0]!r}, which it does not "
                    f"judge: metric={names!r}"
                )

    def terms(self, usual: Terms, metric: str | Metric | None) -> Terms:
        """Return the terms of the gate of a metric. The metrics share the false-alarm rate."""
        return replace(
            usual,
            alpha=share(len(self.metrics), usual.alpha),
            max_seeds=usual.max_seeds if self.max_seeds is None else self.max_seeds,
            first_seed=usual.first_seed if self.first_seed is None else self.first_seed,
            smallest_shift=value_for(self.smallest_shift, metric),
            side=value_for(self.side, metric) or usual.side,
        )


def value_for(values: T | Mapping[str, T] | None, metric: str | Metric | None) -> T | None:
    """Return the value for a metric; one value is for every metric."""
    return values.get(str(metric)) if isinstance(values, Mapping) else values


def renamed_shift(
    given: Directions, smallest_shift: float | Mapping[str, float] | None
) -> float | Mapping[str, float] | None:
    """Return the smallest shift, under its former name `smallest_drop` as well."""
    if unknown := set(given) - set(Directions.__annotations__):
        raise TypeError(f"accuracy_gate() got an unexpected keyword argument {unknown.pop()!r}")
    if "smallest_drop" not in given:
        return smallest_shift
    warnings.warn(
        "accuracy_gate: smallest_drop is deprecated; use smallest_shift",
        DeprecationWarning,
        stacklevel=3,
    )
    return given["smallest_drop"]
