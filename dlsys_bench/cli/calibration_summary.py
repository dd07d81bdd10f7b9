"""The summary that ends a calibration of a user's own training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import reference_path
from dlsys_bench.verdicts.figures import round_up
from dlsys_bench.verdicts.gate import DEFAULT
from dlsys_bench.verdicts.power import power_of_training

WIDTH = 40
"""The number of columns of the plot of the seeds."""

MARKS = " .:*#"
"""The marks of a column of the plot, by the number of runs in it; the last one also of more."""


@dataclass(frozen=True)
class MetricSummary:
    """The reference runs of one metric.

    `values` maps seeds to figures. `mde` is the smallest shift that a gate detects; None if it
    detects none, for the reason `obstacle` where that is known.
    """

    name: str
    values: dict[int, float]
    mde: float | None = None
    obstacle: str | None = None

    def lines(self) -> list[str]:
        """Return the moments, the MDE, and a plot of the runs between the extremes."""
        values = list(self.values.values())
        low, high = min(values), max(values)
        spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
        mde = f", MDE {round_up(self.mde)}" if self.mde is not None else ""
        line = f"{self.name}: {mean(values):.5g}{spread}, {count_of(len(values), 'run')}{mde}"
        plotted = [f"  {low:.5g} |{plot(values)}| {high:.5g}"] * (len(values) > 1)
        return [line, *plotted, *([self.obstacle] if self.obstacle else [])]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        values = list(self.values.values())
        return {
            "metric": self.name,
            "runs": len(values),
            "mean": mean(values),
            "std": stdev(values) if len(values) > 1 else None,
            "lowest": min(values),
            "highest": max(values),
            "mde": self.mde,
            "obstacle": self.obstacle,
            "values": {str(seed): value for seed, value in self.values.items()},
        }


@dataclass(frozen=True)
class TrainingSummary:
    """The reference runs of a training, and the command that judges it by them."""

    name: str
    metrics: tuple[MetricSummary, ...]
    seconds: float
    command: str

    def lines(self) -> list[str]:
        """Return the figures of each metric, what they cost, and the next command."""
        lines = [line for metric in self.metrics for line in metric.lines()]
        if any(metric.mde is not None for metric in self.metrics):
            lines.append(
                f"MDE: the shift that a gate detects (alpha {DEFAULT.alpha:g}, "
                f"power {1 - DEFAULT.beta:g}, at most {count_of(DEFAULT.max_seeds, 'seed')})"
            )
        return [*lines, f"{self.seconds:.3g} s per run (median)", f"next: {self.command}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "training": self.name,
            "seconds": self.seconds,
            "metrics": [metric.to_dict() for metric in self.metrics],
            "next": self.command,
        }


def summarise(name: str, runs: Sequence[Result], path: Path) -> TrainingSummary | None:
    """Return the summary of the runs of a training in a file; None if none has a figure."""
    names = list(dict.fromkeys(metric for run in runs for metric in run.figures))
    metrics = tuple(_summarise(name, runs, metric) for metric in names)
    if not metrics:
        return None
    command = ["dlsys-bench", "gate", name]
    if path != reference_path(name):
        command += ["--reference", str(path)]
    # A figure that is the same in every run, such as a flag, is not worth a gate.
    judged = [metric for metric in metrics if metric.mde is not None] or metrics[:1]
    if len(metrics) > 1:
        command += [word for metric in judged for word in ("--metric", metric.name)]
    if len(judged) == 1 and judged[0].mde is not None:
        command += ["--smallest-shift", round_up(judged[0].mde)]
    return TrainingSummary(name, metrics, median(run.seconds for run in runs), shlex.join(command))


def _summarise(name: str, runs: Sequence[Result], metric: str) -> MetricSummary:
    values = {run.seed: value for run in runs if (value := run.metric(metric)) is not None}
    values = dict(sorted(values.items()))
    try:
        shift = power_of_training(name, runs, metric).smallest_shift
    except UserError as error:
        return MetricSummary(metric, values, obstacle=str(error))
    return MetricSummary(metric, values, shift if isfinite(shift) and shift > 0 else None)


def plot(values: Sequence[float]) -> str:
    """Return a strip of WIDTH columns with a mark where there are values."""
    low, high = min(values), max(values)
    columns = [0] * WIDTH
    for value in values:
        place = (value - low) / (high - low) if high > low else 0.5
        columns[round(place * (WIDTH - 1))] += 1
    return "".join(MARKS[min(count, len(MARKS) - 1)] for count in columns)
