"""Eggholder regression: error and training time by the number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dlsys_bench.errors import count_of
from dlsys_bench.notebooks.datasets import EGGHOLDER_NOISE
from dlsys_bench.report.picture import save
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log, style
from dlsys_bench.report.plots.groups import Group, groups, not_drawn
from dlsys_bench.runs.result import Result

MODES = (
    ("test_rmse", "evaluation mode", "full"),
    ("test_rmse_in_training_mode", "training mode, as published", "none"),
)


def eggholder(results: Sequence[Result], path: Path) -> Path:
    """Draw the test RMSE and the training time by the number of parameters, and write a PNG.

    Each number of hidden layers is a line through the means of the seeds, and each seed a point.
    The RMSE is that of evaluation mode and that of training mode. Its axis is broken so that it
    includes the standard deviation of the noise.
    """
    grouped = groups(results)
    figure = Figure(figsize=(10.5, 6.0), layout="constrained")
    axes = figure.subplot_mosaic(
        [["error", "seconds"], ["floor", "seconds"]], height_ratios=[7, 1], width_ratios=[1.25, 1]
    )
    lines = _by_depth(grouped)
    for number, ((layers, beside), members) in enumerate(sorted(lines.items())):
        name = count_of(layers, "hidden layer") + (f" ({beside})" if beside else "")
        for metric, mode, fill in MODES:
            _line(axes["error"], members, metric, f"{name}, {mode}", number, fill)
        _line(axes["seconds"], members, "train_seconds", f"{name}, {MODES[0][1]}", number, "full")
    if lines:
        plain_log(axes["seconds"])
        if _spread(axes["error"]) > 10:
            plain_log(axes["error"])
        _names(axes["seconds"], lines)
    else:
        nothing(axes["error"])
    _break(axes["error"], axes["floor"])
    _label(axes)
    head(
        figure,
        results,
        "nb4: for the same number of parameters a deeper network has the lower test RMSE and takes "
        "longer",
        not_drawn(grouped),
    )
    legend(figure)
    return save(figure, path)


def _by_depth(grouped: Sequence[Group]) -> dict[tuple[int, str], list[Group]]:
    """The groups with figures by their number of hidden layers and engine: one line each."""
    lines: dict[tuple[int, str], list[Group]] = {}
    for group in grouped:
        if group.finished:
            layers = int(group.finished[0].figures["layers"])
            lines.setdefault((layers, group.beside), []).append(group)
    return lines


def _label(axes: dict[str, Any]) -> None:
    axes["error"].set_ylabel("test RMSE (units of the function)")
    axes["error"].set_title("error", fontsize=10)
    axes["seconds"].set_title("training time", fontsize=10)
    axes["seconds"].set_ylabel("training (seconds)")
    for axis in axes.values():
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
    for name in ("floor", "seconds"):
        axes[name].set_xlabel("parameters (trainable)")


def _line(
    axis: Any, members: Sequence[Group], metric: str, label: str, number: int, fill: str
) -> None:
    colour, marker, dashes = style(number)
    known = []
    for group in members:
        values = [
            run.figures[metric] for run in group.finished if run.figures.get(metric) is not None
        ]
        if values:
            known.append((group.finished[0].figures["parameters"], values))
    known.sort()
    hollow = fill == "none"
    # Hollow markers are shifted to the right, so that they do not cover the others.
    known = [(parameters * (1.07 if hollow else 1.0), values) for parameters, values in known]
    for parameters, values in known:
        axis.plot(
            [parameters] * len(values),
            values,
            marker,
            color=colour,
            fillstyle=fill,
            alpha=0.6,
            markersize=4,
        )
    axis.plot(
        [x for x, _ in known],
        [float(np.mean(values)) for _, values in known],
        color=colour,
        marker=marker,
        fillstyle=fill,
        markersize=7,
        linestyle=(0, (1, 1.5)) if hollow else dashes,
        linewidth=1.0 if hollow else 1.5,
        label=label,
    )


def _spread(axis: Any) -> float:
    values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axis.lines])
    return float(values.max() / max(values.min(), 1e-9))


def _names(axis: Any, lines: dict[tuple[int, str], list[Group]]) -> None:
    """Write the widths of each network at its point: below it for two layers, because networks of
    two and of three layers have nearly the same size."""
    for (layers, _), members in lines.items():
        below = layers == 2
        for group in members:
            first = group.finished[0].figures
            middle = float(np.mean([run.figures["train_seconds"] for run in group.finished]))
            axis.annotate(
                group.arm,
                (first["parameters"], middle),
                xytext=(0, -9 if below else 9),
                ha="center",
                textcoords="offset points",
                va="top" if below else "bottom",
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.5},
            )
    axis.margins(x=0.12, y=0.1)


def _break(upper: Any, lower: Any) -> None:
    """Draw the standard deviation of the noise on a separate axis below a break."""
    lower.sharex(upper)
    lower.axhline(
        EGGHOLDER_NOISE,
        color="black",
        linestyle=(0, (4, 3)),
        label=f"standard deviation of the noise: {EGGHOLDER_NOISE:.4f}",
    )
    lower.set_ylim(0.0, 1.1)
    lower.set_yticks([0.0, EGGHOLDER_NOISE], ["0", f"{EGGHOLDER_NOISE:.3f}"])
    upper.spines["bottom"].set_visible(False)
    lower.spines["top"].set_visible(False)
    upper.tick_params(labelbottom=False, bottom=False, which="both")
    slash = {
        "marker": [(-1, -0.6), (1, 0.6)],
        "markersize": 9,
        "linestyle": "none",
        "color": "black",
        "clip_on": False,
    }
    upper.plot([0, 1], [0, 0], transform=upper.transAxes, **slash)
    lower.plot([0, 1], [1, 1], transform=lower.transAxes, **slash)
