"""How long engines train until the network is as accurate as it has to be: a row an engine and
device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from dlsys_bench.report.tables import NONE, Table
from dlsys_bench.timing.points import Line
from dlsys_bench.timing.ratio import median_interval
from dlsys_bench.timing.target import Target

FEWEST_SEEDS = 6
"""Fewer values hold their median with less than 95%, however far apart they are."""


@dataclass(frozen=True)
class Median:
    """Of seconds, `low` to `high` with 95%; infinite where so many runs never reached the target,
    None where there are too few runs to say."""

    middle: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Median:
        low, high = median_interval(seconds) if len(seconds) >= FEWEST_SEEDS else (None, None)
        return cls(float(np.median(seconds)), low, high)

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return _seconds(self.middle)
        return f"{_seconds(self.middle)} [{_seconds(self.low)}, {_seconds(self.high)}]"


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}" if isfinite(value) else "never"


@dataclass(frozen=True)
class Group:
    """The runs of one engine on one device to one target. A run that never reached it took for
    ever: it counts."""

    engine: str
    device: str
    runs: Sequence[Line]

    @property
    def reached(self) -> list[Line]:
        return [run for run in self.runs if run["reached"]]

    @property
    def others(self) -> float | None:
        """The most that others took of the machine during a run; None where none was long enough to
        say."""
        return max(
            (run["others_share"] for run in self.runs if run["others_share"] is not None),
            default=None,
        )

    def median(self, field: str) -> Median:
        """Of "seconds", "cold_seconds", or what these differ by, "start_seconds"."""
        return Median.of([_figure(run, field) if run["reached"] else inf for run in self.runs])

    @property
    def row(self) -> tuple[str, ...]:
        lost = [f"seed {run['seed']}: {run['reason']}" for run in self.runs if not run["reached"]]
        steps = float(np.median([run["steps"] if run["reached"] else inf for run in self.runs]))
        return (
            self.engine,
            self.device,
            f"{len(self.reached)} of {len(self.runs)}",
            str(self.median("seconds")),
            str(self.median("cold_seconds")),
            _seconds(self.median("start_seconds").middle),
            f"{steps:,.0f}" if isfinite(steps) else "never",
            NONE if self.others is None else f"{self.others:.0%}",
            "; ".join(lost),
        )


def _figure(run: Line, field: str) -> float:
    return float(run["cold_seconds"] - run["seconds"] if field == "start_seconds" else run[field])


@dataclass(frozen=True)
class Workload:
    """An arm on a dataset at a tier, its target, and the runs to it by engine and device."""

    name: str
    target: Target
    groups: Sequence[Group]


def failed(run: dict[str, Any], reason: str) -> Line:
    """The line of a run whose process ended without one: it did not reach its target either."""
    return run | {
        "reached": False,
        "reason": reason,
        "steps": None,
        "seconds": None,
        "cold_seconds": None,
        "others_share": None,
    }


def workloads(runs: Sequence[Line]) -> list[Workload]:
    """The runs by what was trained and to what level, in the order in which these first come."""
    found: dict[tuple[str, Target], dict[tuple[str, str], list[Line]]] = {}
    for run in runs:
        work = (
            f"{run['study']}/{run['arm']} on {run['dataset']}, tier {run['tier']}",
            Target(**run["target"]),
        )
        found.setdefault(work, {}).setdefault((run["engine"], run["device"]), []).append(run)
    return [
        Workload(name, target, [Group(*who, mine) for who, mine in groups.items()])
        for (name, target), groups in found.items()
    ]


HEADS = (
    "engine",
    "device",
    ">reached",
    ">training, s",
    ">from a cold start, s",
    ">start",
    ">updates",
    ">others",
    "never reached",
)


def tables(works: Sequence[Workload]) -> list[Table]:
    """A table a workload: median seconds with a 95% interval, of training alone and from a cold
    start, how many of the latter are the start; the median of the updates, and the most that others
    took of the machine during a run."""
    return [
        Table(
            f"{work.name}: seconds until {work.target}, {work.target.explained}",
            HEADS,
            [group.row for group in work.groups],
        )
        for work in works
    ]
