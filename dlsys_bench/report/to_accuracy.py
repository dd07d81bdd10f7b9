"""Tables of the time that engines train until the network reaches a target accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Table
from dlsys_bench.timing.points import Measurement
from dlsys_bench.timing.ratio import median_interval
from dlsys_bench.timing.target import Target

MIN_SEEDS = 6
"""The interval of all values of fewer seeds contains the median with less than 95% confidence."""


@dataclass(frozen=True)
class Median:
    """The median of times in seconds, and its 95% confidence interval `low` to `high`.

    They are infinite where too many runs never reached the target. The interval is None if there
    are fewer than MIN_SEEDS runs.
    """

    middle: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Median:
        """Return the median of the times."""
        low, high = median_interval(seconds) if len(seconds) >= MIN_SEEDS else (None, None)
        return cls(float(np.median(seconds)), low, high)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return _seconds(self.middle)
        return f"{_seconds(self.middle)} [{_seconds(self.low)}, {_seconds(self.high)}]"


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}" if isfinite(value) else "never"


@dataclass(frozen=True)
class EngineRuns:
    """The runs of an engine on a device to one target.

    The time of a run that did not reach the target is right-censored: the statistics take it as
    infinite, so that such runs raise the median instead of being left out.
    """

    engine: str
    device: str
    runs: Sequence[Measurement]

    @property
    def reached(self) -> list[Measurement]:
        """The runs that reached the target."""
        return [run for run in self.runs if run["reached"]]

    @property
    def background_load(self) -> float | None:
        """The highest background load during a run; None if no run was long enough for it."""
        loads = [run["others_share"] for run in self.runs if run["others_share"] is not None]
        return max(loads, default=None)

    def median(self, field: str) -> Median:
        """Return the median of "seconds", "cold_seconds" or their difference "start_seconds"."""
        return Median.of([_time(run, field) if run["reached"] else inf for run in self.runs])

    @property
    def row(self) -> tuple[str, ...]:
        """The row of the table, with the columns HEADS."""
        failures = [
            f"seed {run['seed']}: {run['reason']}" for run in self.runs if not run["reached"]
        ]
        steps = float(np.median([run["steps"] if run["reached"] else inf for run in self.runs]))
        load = self.background_load
        return (
            self.engine,
            self.device,
            f"{len(self.reached)} of {len(self.runs)}",
            str(self.median("seconds")),
            str(self.median("cold_seconds")),
            _seconds(self.median("start_seconds").middle),
            f"{steps:,.0f}" if isfinite(steps) else "never",
            NONE if load is None else f"{load:.0%}",
            "; ".join(failures),
        )


def _time(run: Measurement, field: str) -> float:
    return float(run["cold_seconds"] - run["seconds"] if field == "start_seconds" else run[field])


@dataclass(frozen=True)
class TargetResults:
    """The results for one target: the arm, dataset and tier by `name`, and the runs by engine."""

    name: str
    target: Target
    engines: Sequence[EngineRuns]


def failed_run(run: dict[str, Any], reason: str) -> Measurement:
    """Return the measurement of a run whose process failed: it did not reach its target."""
    unknown = dict.fromkeys(("steps", "seconds", "cold_seconds", "others_share"))
    return run | {"reached": False, "reason": reason} | unknown


def group_by_target(runs: Sequence[Measurement]) -> list[TargetResults]:
    """Group the runs by arm and target, then by engine and device, in order of appearance."""
    found: dict[tuple[str, Target], dict[tuple[str, str], list[Measurement]]] = {}
    for run in runs:
        name = f"{run['study']}/{run['arm']} on {run['dataset']}, tier {run['tier']}"
        target = Target.from_dict(run["target"])
        engines = found.setdefault((name, target), {})
        engines.setdefault((run["engine"], run["device"]), []).append(run)
    return [
        TargetResults(name, target, [EngineRuns(*place, own) for place, own in engines.items()])
        for (name, target), engines in found.items()
    ]


HEADS = (
    *("engine", "device", ">reached", ">training, s", ">from a cold start, s", ">start, s"),
    *(">updates", ">background load", "not reached"),
)


def to_accuracy_tables(results: Sequence[TargetResults]) -> list[Table]:
    """Return a table per target with one row per engine and device.

    The times are medians with their 95% confidence interval: of training alone, and from a cold
    start, with the difference of the two in a column. The background load is that of the run with
    the highest.
    """
    return [
        Table(
            f"{result.name}: seconds until {result.target}, {result.target.explanation}",
            HEADS,
            [engine.row for engine in result.engines],
        )
        for result in results
    ]
