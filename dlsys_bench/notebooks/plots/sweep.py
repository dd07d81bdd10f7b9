"""Loss and accuracy against what a study sweeps: the learning rate, or the batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.report.picture import GREEN, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log, style
from dlsys_bench.report.plots.groups import Group, groups, seeds
from dlsys_bench.report.plots.statistics import mean
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import EPOCH_METRICS

LOGARITHMIC_FROM = 10.0
"""A loss whose largest is so many times its smallest is drawn on a logarithmic axis."""


class Swept(NamedTuple):
    """What is swept: its axis, the base of its logarithm, and its value in a run."""

    label: str
    base: int
    value: Callable[[Result], float]


LEARNING_RATE = Swept(
    "learning rate", 10, lambda run: float(run.recipe["optimizer"]["learning_rate"])
)
BATCH_SIZE = Swept("batch size (samples)", 2, lambda run: float(run.recipe["batch_size"]))

METRICS = (
    ("running_loss", "training loss, mean of the last epoch"),
    ("test_accuracy", "test accuracy\n(fraction right)"),
)


def swept(results: Sequence[Result]) -> Swept:
    """What the runs differ in; of a single run, what the study is named for."""
    sizes = {BATCH_SIZE.value(run) for run in results}
    rates = {LEARNING_RATE.value(run) for run in results}
    if len(sizes) == len(rates):
        return BATCH_SIZE if results[0].key.study.startswith("batch-size") else LEARNING_RATE
    return BATCH_SIZE if len(sizes) > len(rates) else LEARNING_RATE


def sweep(results: Sequence[Result], path: Path) -> Path:
    """The last epoch's running loss and test accuracy by learning rate or batch size: each seed a
    point, the mean of the seeds with its 95% t interval, the best marked; runs that diverged stand
    at the upper edge. Writes a PNG."""
    from matplotlib.figure import Figure

    along = swept(results)
    # An engine is a line; its arms are the points.
    lines: dict[str, list[Group]] = {}
    for group in groups(results):
        lines.setdefault(group.beside.partition(", protocol")[0], []).append(group)
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for axis, (metric, label) in zip(axes, METRICS, strict=True):
        _panel(axis, lines, along, metric)
        axis.set_ylabel(
            f"{label}\n(seeds averaged in logarithms)" if logarithmic(lines, metric) else label
        )
        axis.grid(alpha=0.3)
    axes[1].set_xlabel(along.label)
    axes[1].set_xscale("log", base=along.base)
    values = sorted({along.value(run) for run in results})
    axes[1].set_xticks(values, [f"{value:g}" for value in values])
    axes[1].minorticks_off()
    axes[1].set_xlim(values[0] / along.base**0.6, values[-1] * along.base**0.6)
    head(figure, results, _finding(lines, along))
    legend(figure)
    return save(figure, path)


def last_values(group: Group, metric: str) -> list[float]:
    """A metric of the last epoch of every run that finished and has it."""
    known = (run.metric(metric) for run in group.finished)
    return [value for value in known if value is not None and np.isfinite(value)]


def logarithmic(lines: dict[str, list[Group]], metric: str) -> bool:
    """Whether a metric is a loss of so wide a range that its axis, mean and interval are of its
    logarithms."""
    every = [
        value for line in lines.values() for group in line for value in last_values(group, metric)
    ]
    return (
        not EPOCH_METRICS[metric].is_fraction
        and bool(every)
        and 0 < LOGARITHMIC_FROM * min(every) <= max(every)
    )


def _panel(axis: Any, lines: dict[str, list[Group]], along: Swept, metric: str) -> None:
    loss, logs = not EPOCH_METRICS[metric].is_fraction, logarithmic(lines, metric)
    for number, (name, line) in enumerate(lines.items()):
        colour, marker, dashes = style(number)
        # Side by side, so that one engine does not cover another.
        aside = along.base ** (0.12 * (number - (len(lines) - 1) / 2))
        known = [(along.value(group.runs[0]) * aside, last_values(group, metric)) for group in line]
        known = sorted((x, values) for x, values in known if values)
        for x, values in known:
            axis.plot(
                [x] * len(values),
                values,
                ".",
                color=colour,
                alpha=0.45,
                markersize=7,
                zorder=3,
                label=f"{name}: a seed".removeprefix(": "),
            )
        means = [mean(values, logarithmic=logs) for _, values in known]
        if means:
            down, up = zip(*((m.bars[0][0], m.bars[1][0]) for m in means), strict=True)
            axis.errorbar(
                [x for x, _ in known],
                [m.value for m in means],
                yerr=(down, up),
                color=colour,
                marker=marker,
                markersize=5,
                linestyle=dashes,
                linewidth=1.3,
                zorder=2.6,
                capsize=4 if any(map(any, (down, up))) else 0,
                label=f"{name}: mean of the seeds, 95% t interval".removeprefix(": "),
            )
            best = (np.argmin if loss else np.argmax)([m.value for m in means])
            axis.plot(
                known[best][0],
                means[best].value,
                "*",
                color=GREEN,
                markersize=19,
                markeredgecolor="black",
                markeredgewidth=0.7,
                zorder=2.5,
                label="best",
            )
        _diverged(axis, line, along, aside)
    if logs:
        plain_log(axis)
    if not axis.lines:
        nothing(axis)
    elif not loss:
        # An interval of few seeds may reach beyond what a fraction can be.
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -0.02), min(high, 1.02))


def _diverged(axis: Any, line: Sequence[Group], along: Swept, aside: float) -> None:
    """A cross at the upper edge for each arm with runs that diverged, and how many they were."""
    for group in line:
        lost = sum(run.status == "diverged" for run in group.runs)
        if lost:
            at = along.value(group.runs[0]) * aside, 1.0
            axis.plot(
                *at,
                "X",
                color=VERMILLION,
                markersize=10,
                transform=axis.get_xaxis_transform(),
                clip_on=False,
                linestyle="none",
                zorder=5,
                label="diverged (loss not finite)",
            )
            axis.annotate(
                f"{lost} of {len(group.runs)}",
                at,
                xycoords=axis.get_xaxis_transform(),
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
                color=VERMILLION,
            )


def _finding(lines: dict[str, list[Group]], along: Swept) -> str:
    """What the notebook says of it, and what was measured."""
    said = (
        "nb2: the best learning rate is 0.1"
        if along is LEARNING_RATE
        else "nb2: the training loss rises with the batch size"
    )
    found = []
    for name, line in lines.items():
        known = sorted(
            (along.value(g.runs[0]), values)
            for g in line
            if (values := last_values(g, "running_loss"))
        )
        if not known:
            continue
        logs = logarithmic(lines, "running_loss")
        means = [(x, mean(values, logarithmic=logs).value) for x, values in known]
        best, lowest = min(means, key=lambda pair: pair[1])
        text = f"lowest training loss at {best:g} ({lowest:.3g}, mean of {seeds(len(dict(known)[best]))})"
        if along is BATCH_SIZE and len(means) > 1:
            rises = int(np.sum(np.diff([value for _, value in means]) > 0))
            text = f"the mean rises in {rises} of {len(means) - 1} steps; {text}"
        found.append(f"{name}: {text}" if name else text)
    return f"{said}. Here: {'; '.join(found) or 'no run finished'}"
