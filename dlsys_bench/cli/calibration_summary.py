"""The summary that ends a calibration of a user's own training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import mean, median, stdev

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import reference_path
from dlsys_bench.verdicts.acceptance import figures_of
from dlsys_bench.verdicts.gate import DEFAULT
from dlsys_bench.verdicts.power import power_of_training

WIDTH = 40
"""The number of columns of the plot of the seeds."""

MARKS = " .:*#"
"""The marks of a column of the plot, by the number of runs in it; the last one also of more."""


def lines_of_training(name: str, runs: Sequence[Result], path: Path) -> list[str]:
    """Return the figures of a training, what a gate can detect, and the next command."""
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.figures))
    lines = [line for metric in metrics for line in _figure(metric, runs)]
    if not lines:
        return []
    lines.append(f"{median(run.seconds for run in runs):.3g} s per run (median)")
    try:
        found = power_of_training(name, runs, metrics[0])
    except UserError as error:
        return [*lines, str(error)]
    shift = found.smallest_shift
    command = ["dlsys-bench", "gate", name]
    if path != reference_path(name):
        command += ["--reference", str(path)]
    if len(metrics) > 1:
        command += ["--metric", metrics[0]]
    if isfinite(shift) and shift > 0:
        command += ["--smallest-shift", f"{shift:.2g}"]
        lines.append(
            f"a gate detects a shift of {metrics[0]} by {shift:.2g} or more (MDE: alpha "
            f"{DEFAULT.alpha:g}, power {1 - DEFAULT.beta:g}, at most "
            f"{count_of(DEFAULT.max_seeds, 'seed')})"
        )
    return [*lines, f"next: {shlex.join(command)}"]


def _figure(metric: str, runs: Sequence[Result]) -> list[str]:
    """The moments and the extremes of a figure, and a plot of its runs between the extremes."""
    values = figures_of(runs, metric)
    if len(values) < 2:
        return []
    low, high = min(values), max(values)
    line = f"{metric}: {mean(values):.5g} ± {stdev(values):.2g}, {count_of(len(values), 'run')}"
    return [line, f"  {low:.5g} |{plot(values)}| {high:.5g}"]


def plot(values: Sequence[float]) -> str:
    """Return a strip of WIDTH columns with a mark where there are values."""
    low, high = min(values), max(values)
    columns = [0] * WIDTH
    for value in values:
        place = (value - low) / (high - low) if high > low else 0.5
        columns[round(place * (WIDTH - 1))] += 1
    return "".join(MARKS[min(count, len(MARKS) - 1)] for count in columns)
