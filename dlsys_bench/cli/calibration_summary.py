"""The summary that ends a calibration: what a gate detects, and the command that runs it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from dlsys_bench.cli.training import Work, WorkOptions
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import find_reference, reference_path
from dlsys_bench.verdicts.figures import round_up
from dlsys_bench.verdicts.gate import DEFAULT, Terms, gate_for, share
from dlsys_bench.verdicts.power import power, power_of_training

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
            lines.append(_explanation(DEFAULT))
        return [*lines, f"{self.seconds:.3g} s per run (median)", f"next: {self.command}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "training": self.name,
            "seconds": self.seconds,
            "metrics": [metric.to_dict() for metric in self.metrics],
            "next": self.command,
        }


@dataclass(frozen=True)
class ArmSummary:
    """The reference runs of an arm that its gate holds new runs to, as `lines` of text and as JSON
    values, and the MDE; None if the gate detects none."""

    text: str
    values: dict[str, Any]
    mde: float | None


@dataclass(frozen=True)
class StudySummary:
    """The reference runs of the arms of a study, and the command that judges new runs by them."""

    name: str
    arms: tuple[ArmSummary, ...]
    terms: Terms
    command: str

    def lines(self) -> list[str]:
        """Return a line for each arm, and the next command."""
        explained = [_explanation(self.terms)] * any(arm.mde is not None for arm in self.arms)
        return [*(arm.text for arm in self.arms), *explained, f"next: {self.command}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        arms = [arm.values | {"mde": arm.mde} for arm in self.arms]
        return {"study": self.name, "arms": arms, "next": self.command}


def _explanation(terms: Terms) -> str:
    return (
        f"MDE: the shift that a gate detects (alpha {terms.alpha:.2g}, power {1 - terms.beta:g}, "
        f"at most {count_of(terms.max_seeds, 'seed')})"
    )


def summarise_study(
    name: str, work: Sequence[Work], options: WorkOptions, output: Path | None
) -> StudySummary:
    """Return the summary of the reference runs that the gates of a study read."""
    terms = replace(DEFAULT, alpha=share(len(work), DEFAULT.alpha))
    # Several engines are judged by the same reference runs.
    every = {(one.case.name, one.data.name): one for one in work}
    arms = tuple(_summarise_arm(one, options.tier, terms) for one in every.values())
    command = ["dlsys-bench", "gate", name]
    command += [word for engine in options.engines for word in ("--engine", engine)]
    command += ["--device", options.device, "--tier", options.tier]
    for option, value in (
        ("--dataset", options.dataset),
        ("--data-dir", options.data_dir),
        ("--scaling", options.scaling),
    ):
        command += [option, value] if value else []
    read = {find_reference(one.case.study.name, one.data.name, options.tier) for one in work}
    line = shlex.join(command)
    if output is not None and {path.resolve() for path in read} != {output.resolve()}:
        places = ", ".join(sorted(map(str, read)))
        line += f" (which reads {places}, and not {output})"
    return StudySummary(name, arms, terms, line)


def _summarise_arm(work: Work, tier: str, terms: Terms) -> ArmSummary:
    found = power(work.case, work.data, tier, terms)
    mde = found.smallest_shift if isfinite(found.smallest_shift) else None
    reason = found.unjudged or gate_for(work.case, work.data, tier, terms)[0].obstacle
    text = f"{work.case.name} on {work.data.name}: {found.metric}"
    if found.mean is not None and found.std is not None:
        runs = count_of(found.stored, "reference run")
        text += f" {found.mean:.5g} ± {found.std:.2g}, {runs}"
    text += f", MDE {round_up(mde)}" if mde is not None else f": {reason}"
    values = found.to_dict()
    kept = {name: values[name] for name in ("arm", "dataset", "tier", "metric", "mean")}
    kept |= {"runs": found.stored, "std": found.std, "obstacle": reason}
    return ArmSummary(text, kept, mde)


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
