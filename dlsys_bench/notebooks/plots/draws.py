"""The distribution of accuracy over draws of points and weights, and the published draws in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings.runs import ARMS_OF_CLAIMS
from dlsys_bench.notebooks.studies.perceptron import PERCEPTRON, PROTOCOLS
from dlsys_bench.report.picture import save
from dlsys_bench.report.plots.frame import PUBLISHED, head, legend, nothing, style
from dlsys_bench.report.plots.groups import Group, groups, not_drawn
from dlsys_bench.report.plots.statistics import percentile
from dlsys_bench.runs.result import Result

BIN = 5
"""The number of counts, of a thousand test points, in one step of the density."""
RAREST = 0.003
"""The fraction of the draws that may be left of the axis."""


def pooled(runs: Sequence[Result]) -> NDArray[np.int64]:
    """The number of draws, over all runs, with k = 0 ... N of the N test points correct."""
    counts: NDArray[np.int64] = np.sum(
        [run.figures["counts"] for run in runs], axis=0, dtype=np.int64
    )
    return counts


def published(arm: str) -> float | None:
    """The published accuracy of an arm, from a single draw; None if there is none."""
    for claim in claims():
        if ARMS_OF_CLAIMS.get(claim["id"]) == (PERCEPTRON.name, arm):
            return float(claim["value"])
    return None


def draws(results: Sequence[Result], path: Path) -> Path:
    """Draw one row per protocol and write a PNG.

    A row compares the losses by the density and the cumulative distribution of the test accuracy
    over all draws, with the published draws and their percentiles.
    """
    grouped = groups(results)
    protocols: dict[str, list[Group]] = {}
    for group in grouped:
        protocols.setdefault(_parts(group)[0], []).append(group)
    figure = Figure(figsize=(10.0, 2.9 * len(protocols) + 1.5), layout="constrained")
    axes = figure.subplots(len(protocols), 2, sharex=True, sharey="col", squeeze=False)
    for (left, right), (protocol, members) in zip(axes, protocols.items(), strict=True):
        for group in members:
            if group.finished:
                _draw(left, right, group, _look(group, grouped))
        if not any(group.finished for group in members):
            nothing(left)
        left.set_title(f"{protocol}: density", fontsize=10)
        right.set_title(f"{protocol}: cumulative", fontsize=10)
        left.set_ylabel(f"draws (percent per {BIN / 1000:g})")
        right.set_ylabel("cumulative draws (percent)")
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.tick_params(labelbottom=True)
    for axis in axes[-1]:
        axis.set_xlabel("test accuracy (fraction of 1000 fresh points)")
    axes[0][0].set_xlim(_left_edge(grouped), 1.005)
    published_result = (
        "nb2 finds the perceptron criterion better, nb4 hinge loss, each from a single draw"
    )
    head(figure, results, f"20 training points per draw. {published_result}", not_drawn(grouped))
    legend(figure)
    return save(figure, path)


def _left_edge(grouped: Sequence[Group]) -> float:
    """The start of the axis, which holds the published draws and all but the rarest others."""
    starts = [value for group in grouped if (value := published(group.arm)) is not None]
    for group in grouped:
        if group.finished:
            counts = pooled(group.finished)
            starts.append(
                float(np.argmax(np.cumsum(counts) >= RAREST * counts.sum())) / (len(counts) - 1)
            )
    return max(min(starts, default=0.0) - 0.02, 0.0)


def _look(group: Group, grouped: Sequence[Group]) -> tuple[str, str, Any]:
    """The style of a loss (and engine), the same in every row."""
    kinds = list(dict.fromkeys((_parts(other)[1], other.beside) for other in grouped))
    return style(kinds.index((_parts(group)[1], group.beside)))


def _parts(group: Group) -> tuple[str, str]:
    """The protocol and the loss of a group."""
    return PROTOCOLS.get(group.arm, (group.arm, ""))


def _draw(left: Any, right: Any, group: Group, look: tuple[str, str, Any]) -> None:
    colour, _, dashes = look
    counts = pooled(group.finished)
    every, points = int(counts.sum()), len(counts) - 1
    accuracies = np.arange(len(counts)) / points
    average = float(counts @ accuracies / every)
    name = " ".join(part for part in (_parts(group)[1] or group.arm, group.beside) if part)
    # Laid out from the right, so that the last bin has full width and ends with all points correct.
    edges = np.arange(points + 0.5, -BIN, -BIN)[::-1] / points
    steps, _ = np.histogram(accuracies, bins=edges, weights=100 * counts / every)
    left.stairs(steps, edges, color=colour, fill=True, alpha=0.18)
    left.stairs(steps, edges, color=colour, linestyle=dashes, linewidth=1.4, label=name)
    right.plot(
        accuracies,
        100 * np.cumsum(counts) / every,
        color=colour,
        linestyle=dashes,
        linewidth=1.6,
        label=name,
    )
    left.axvline(average, ymax=0.06, color=colour, linewidth=3, label=f"mean of {name}")
    lines = [f"{name}: mean {average:.4f}, {every:,} draws"]
    value = published(group.arm)
    if value is not None:
        at = percentile(counts.tolist(), round(value * points))
        lines.append(f"   published {value:g}: percentile {at:.1f}")
        _published(left, right, value, at, colour)
    _write(right, lines)


def _published(left: Any, right: Any, value: float, at: float, colour: str) -> None:
    """Mark the published draw at its percentile."""
    for axis in (left, right):
        axis.axvline(value, color=colour, linestyle=(0, (1, 1.2)), linewidth=1.6)
    marker = PUBLISHED | {"markersize": 9, "markeredgewidth": 1.8}
    right.plot(value, at, zorder=5, label="published draw", **marker)


def _write(axis: Any, lines: Sequence[str]) -> None:
    """Write lines in the upper left corner, which no distribution reaches, below earlier ones."""
    above = len(axis.texts)
    for number, line in enumerate(lines):
        axis.text(
            0.015,
            0.965 - 0.085 * (above + number),
            line,
            transform=axis.transAxes,
            va="top",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            zorder=6,
        )
