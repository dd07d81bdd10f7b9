"""The learning curves: loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlsys_bench.report.limits import late_limits
from dlsys_bench.report.picture import BLUE, GREEN, ORANGE, VERMILLION, save
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log
from dlsys_bench.report.plots.groups import groups, not_drawn, seeds
from dlsys_bench.runs.result import Result

RATIO = 5.0
"""Values whose ratio is above this are drawn on a logarithmic axis."""

# Prefix of the fields, label, colour and dashes. Lines differ in dashes as well as in colour.
LINES = (
    ("running", "training, running", ORANGE, (0, (4, 2))),
    ("train", "training, evaluated", VERMILLION, "solid"),
    ("validation", "validation", GREEN, (0, (1, 1))),
    ("test", "test", BLUE, "solid"),
)


def curves(results: Sequence[Result], path: Path) -> Path:
    """Draw loss and accuracy by epoch as a PNG, with one column per arm.

    Lines are the mean of the seeds; their range is shaded. A run that diverged is drawn up to the
    epoch before. The axes leave out values of early epochs that lie beyond all later ones.
    """
    grouped = groups(results)
    figure = Figure(figsize=(max(3.0 * len(grouped), 6.4), 5.6), layout="constrained")
    axes = figure.subplots(2, len(grouped), sharex="col", sharey="row", squeeze=False)
    drawn: dict[str, list[Sequence[float]]] = {"loss": [], "accuracy": []}
    for column, group in enumerate(grouped):
        runs = [run for run in group.runs if run.history]
        for axis, metric in zip(axes[:, column], drawn, strict=True):
            for split, label, colour, dashes in LINES:
                means = _draw_line(axis, runs, f"{split}_{metric}", label, colour, dashes)
                drawn[metric].append(means)
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            if not runs:
                diverged = any(run.status == "diverged" for run in group.runs)
                nothing(axis, "diverged in\nits first epoch" if diverged else "no epochs\nto draw")
        axes[0][column].set_title(
            f"{group.arm}\n({f'{group.beside}, ' * bool(group.beside)}{seeds(len(group.runs))})",
            fontsize=10,
        )
        axes[1][column].set_xlabel("epoch")
    for axis, values in zip(axes[:, 0], drawn.values(), strict=True):
        _zoom(axis, values)
    axes[0][0].set_ylabel("mean loss per batch")
    axes[1][0].set_ylabel("accuracy")
    head(figure, results, not_drawn(grouped, what="diverged, drawn up to then"))
    legend(figure)
    return save(figure, path)


def _draw_line(
    axis: Any, runs: Sequence[Result], name: str, label: str, colour: str, dashes: Any
) -> Sequence[float]:
    """Draw a figure of the epochs of runs, and return its means; none if it is not known."""
    known = [[getattr(epoch, name) for epoch in run.history] for run in runs]
    known = [values for values in known if all(value is not None for value in values)]
    if not known:
        return ()
    length = min(map(len, known))
    values = np.array([row[:length] for row in known], np.float64)
    epochs = np.arange(1, length + 1)
    marker = "o" if length == 1 else None
    axis.plot(
        epochs, values.mean(axis=0), color=colour, linestyle=dashes, label=label, marker=marker
    )
    if len(known) > 1:
        axis.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0
        )
    means: list[float] = values.mean(axis=0).tolist()
    return means


def _zoom(axis: Any, drawn: Sequence[Sequence[float]]) -> None:
    """Limit a y axis to the later values of lines, and make it logarithmic above RATIO."""
    limits = late_limits(drawn)
    if limits is None or not all(map(isfinite, limits)):
        return
    low, high = limits
    if low > 0 and high > RATIO * low:
        axis.set_ylim(low / 1.15, high * 1.15)
        plain_log(axis)
    else:
        margin = 0.05 * (high - low) or 0.05
        axis.set_ylim(low - margin, high + margin)
