"""The parameters that a schedule changes at every step, with the loss and the accuracy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsys_bench.notebooks.claims import claims
from dlsys_bench.report.picture import BLUE, GREEN, ORANGE, save
from dlsys_bench.report.plots.frame import PUBLISHED as PUBLISHED_MARKER
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log
from dlsys_bench.report.plots.groups import Group, groups, not_drawn, seeds
from dlsys_bench.report.plots.statistics import smooth
from dlsys_bench.runs.result import Result

# The field of the recipe with the schedule, the parameter that it changes, and its label.
SCHEDULED = (
    ("schedule", "learning_rate", "learning rate"),
    ("batch_sizes", "batch_size", "batch size (samples)"),
)

WINDOWS = 60
"""The number of smoothing windows in the steps of a run."""

# The claim on an arm, by study and arm, and the metric of a run that it refers to.
PUBLISHED = {
    ("cyclical-learning-rate", "exp_range"): ("nb2.clr.val_accuracy@5", "test_accuracy"),
    ("cyclical-batch-size", "published"): ("nb2.cyclic-batch.train_accuracy", "running_accuracy"),
}
ACCURACIES = (
    ("running_accuracy", "training accuracy, running", ORANGE, "s", (0, (4, 2))),
    ("test_accuracy", "test accuracy", BLUE, "o", "solid"),
)


def published(study: str, arm: str) -> tuple[str, dict[int, float]]:
    """The metric and the accuracy by epoch that a notebook publishes for an arm; empty if none."""
    name, metric = PUBLISHED.get((study, arm), ("", ""))
    for claim in claims():
        if claim["id"] == name:
            if "values" in claim:
                return metric, dict(enumerate(claim["values"], start=1))
            # The value is that of the last epoch; the note lists the other epochs.
            noted = re.search(r"by epoch((?: \d\.\d+)+)", claim.get("note", ""))
            by_epoch = dict(enumerate(map(float, noted[1].split()), start=1)) if noted else {}
            return metric, by_epoch | {claim["epoch"]: claim["value"]}
    return metric, {}


def by_step(run: Result, name: str) -> NDArray[np.float64]:
    """A quantity at every step of a run; empty if the run does not store it."""
    kept = [epoch.by_step.get(name, []) for epoch in run.history if epoch.by_step]
    return np.array(
        [np.nan if value is None else value for part in kept for value in part], np.float64
    )


def window(count: int) -> int:
    """The odd width of the smoothing window for a number of steps."""
    return count // WINDOWS // 2 * 2 + 1


def steps(results: Sequence[Result], path: Path) -> Path:
    """Draw one column per arm and write a PNG.

    A column shows the scheduled parameter and the training loss by step (the first seed as it is,
    every seed smoothed), and the accuracies at the ends of epochs with those published.
    """
    grouped = groups(results)
    scheduled = [
        (name, label)
        for key, name, label in SCHEDULED
        if any(run.recipe.get(key) for run in results)
    ]
    heights = [1.0] * len(scheduled) + [1.3, 1.3]
    figure = Figure(
        figsize=(max(3.1 * len(grouped), 7.6), 2.4 * sum(heights) + 0.9), layout="constrained"
    )
    axes = figure.subplots(
        len(heights), len(grouped), sharex="col", sharey="row", squeeze=False, height_ratios=heights
    )
    for column, group in enumerate(grouped):
        _column(axes[:, column], group, [name for name, _ in scheduled])
    _label(axes[:, 0], [label for _, label in scheduled])
    head(figure, results, not_drawn(grouped, what="diverged, drawn until then"))
    legend(figure)
    return save(figure, path)


def _column(axes: Any, group: Group, scheduled: Sequence[str]) -> None:
    """Draw one arm."""
    for axis, name in zip(axes, scheduled, strict=False):
        _parameter(axis, group, name)
    _loss(axes[-2], group)
    _accuracy(axes[-1], group)
    axes[0].set_title(f"{group.label}\n({seeds(len(group.runs))})", fontsize=10)
    axes[-1].set_xlabel("step (updates from the start)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.ticklabel_format(axis="x", useOffset=False)


def _label(axes: Any, scheduled: Sequence[str]) -> None:
    """Label the left axes and set their scales."""
    for axis, label in zip(axes, scheduled, strict=False):
        axis.set_ylabel(label)
        if label == SCHEDULED[1][2]:
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[-2].set_ylabel("training loss of a step")
    plain_log(axes[-2])
    axes[-1].set_ylabel("accuracy (fraction correct)")


def _parameter(axis: Any, group: Group, name: str) -> None:
    """Draw the scheduled parameter, or its constant value in the recipe if it is not scheduled."""
    runs = [run for run in group.runs if run.history]
    if not runs:
        nothing(axis, "diverged in\nits first epoch")
        return
    longest = max(runs, key=lambda run: run.history[-1].steps)
    values = by_step(longest, name)
    if not len(values):
        recipe = longest.recipe
        constant = (
            recipe["batch_size"] if name == "batch_size" else recipe["optimizer"]["learning_rate"]
        )
        axis.plot([0, longest.history[-1].steps], [constant, constant], color=GREEN, linewidth=1.2)
        return
    axis.plot(
        np.arange(1, len(values) + 1), values, color=GREEN, linewidth=1.2, drawstyle="steps-mid"
    )


def _loss(axis: Any, group: Group) -> None:
    raw = [values for run in group.runs if len(values := by_step(run, "loss"))]
    if not raw:
        for run in group.runs:
            ends = [epoch.steps for epoch in run.history]
            axis.plot(
                ends,
                [epoch.running_loss for epoch in run.history],
                ".",
                color=ORANGE,
                alpha=0.7,
                label="training loss, mean of an epoch (steps not stored)",
            )
        return
    axis.plot(
        np.arange(1, len(raw[0]) + 1),
        raw[0],
        color="#B8B8B8",
        linewidth=0.5,
        label="loss of a step, first seed",
    )
    width = window(len(raw[0]))
    for values in raw:
        axis.plot(
            np.arange(1, len(values) + 1),
            smooth(values, width),
            color=ORANGE,
            linewidth=1.1,
            alpha=0.85,
            label="a seed, smoothed over 1/60 of the steps",
        )


def _accuracy(axis: Any, group: Group) -> None:
    # The published figures are those of the full training, not of the quick tier.
    first = group.runs[0]
    metric, known = published(first.key.study, group.arm) if first.key.tier == "full" else ("", {})
    ends = {epoch.epoch: epoch.steps for run in group.runs for epoch in run.history}
    for line in ACCURACIES:
        _accuracy_line(axis, group.runs, *line)
    here = [(ends[epoch], value) for epoch, value in known.items() if epoch in ends]
    if here:
        of = next(label for name, label, *_ in ACCURACIES if name == metric)
        axis.plot(
            *zip(*here, strict=True),
            markersize=9,
            markeredgewidth=1.6,
            label=f"published (nb2): {of}",
            **PUBLISHED_MARKER,
        )
    if not ends:
        nothing(axis, "diverged in\nits first epoch")


def _accuracy_line(
    axis: Any, runs: Sequence[Result], name: str, label: str, colour: str, marker: str, dashes: Any
) -> None:
    """A metric at the ends of epochs: each seed a point, the mean a line."""
    points: dict[int, list[float]] = {}
    for epoch in (epoch for run in runs for epoch in run.history):
        if (value := getattr(epoch, name)) is not None:
            points.setdefault(epoch.steps, []).append(value)
    for at, values in points.items():
        axis.plot(
            [at] * len(values),
            values,
            marker,
            color=colour,
            alpha=0.45,
            markersize=4,
            linestyle="none",
        )
    axis.plot(
        list(points),
        [float(np.mean(values)) for values in points.values()],
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=3,
        linewidth=1.2,
        label=f"{label}: mean, and each seed",
    )
