"""The outputs of the hidden layers of untrained networks, by activation and initialiser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from dlsys_bench.notebooks.studies.initialization import ASYMPTOTES as RANGES
from dlsys_bench.notebooks.studies.initialization import PARTS
from dlsys_bench.report.picture import BLUE, ORANGE, save
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log
from dlsys_bench.report.plots.groups import Group, groups, not_drawn, seeds
from dlsys_bench.report.plots.statistics import from_quantiles
from dlsys_bench.runs.result import Result

BINS = 48
DECADES = (-4.0, 3.0)
"""The powers of ten on which the positive outputs of an unbounded activation are drawn."""

STATISTICS = (
    ("deviation", "standard deviation", BLUE, "o"),
    ("saturated", "saturated\n(fraction)", ORANGE, "s"),
)


def layer_density(
    quantiles: Sequence[Sequence[float]], edges: NDArray[np.float64], *, powers: bool
) -> NDArray[np.float64]:
    """The density of one layer's outputs over the bins, relative to the fullest bin.

    `quantiles` has one list per seed. With `powers`, the bins are of the logarithms of the positive
    outputs. The density is zero everywhere if no output falls in the bins.
    """
    values = np.concatenate([from_quantiles(levels) for levels in quantiles])
    if powers:
        values = np.log10(values[values > 0])
    counts = np.histogram(values, bins=edges)[0].astype(np.float64)
    density: NDArray[np.float64] = counts / max(float(counts.max()), 1.0)
    return density


def activations(results: Sequence[Result], path: Path) -> Path:
    """Draw one band per activation and one column per initialiser, and write a PNG.

    A band shows the outputs of the five hidden layers as violins and, below them, their standard
    deviation and saturated fraction with the prediction for wide networks.
    """
    drawn = {_place(group): group for group in groups(results)}
    kinds = list(dict.fromkeys(kind for kind, _ in drawn))
    starts = list(dict.fromkeys(start for _, start in drawn))
    figure = Figure(
        figsize=(max(1.85 * len(starts) + 0.9, 7.5), 4.3 * len(kinds) + 1.2), layout="constrained"
    )
    axes = figure.subplots(
        3 * len(kinds),
        len(starts),
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=[2.0, 1.0, 1.0] * len(kinds),
    )
    for band, kind in enumerate(kinds):
        rows = axes[3 * band : 3 * band + 3]
        for column, start in enumerate(starts):
            _column(rows[:, column], kind, drawn.get((kind, start)))
            label = "\n".join(part for part in start if part)
            rows[0][column].set_title(f"{kind}, {label}", fontsize=9)
        _label(rows[:, 0], kind)
    for axis in axes[-1]:
        axis.set_xlabel("hidden layer")
        axis.set_xticks(range(1, 6))
    runs = max(len(group.runs) for group in drawn.values())
    head(
        figure,
        results,
        f"outputs of untrained networks, pooled over {seeds(runs)} per arm. Saturated: within 0.01 "
        "of an asymptote; for ReLU exactly zero, omitted from its violins (logarithmic axis)",
        not_drawn(drawn.values()),
    )
    legend(figure)
    return save(figure, path)


def _place(group: Group) -> tuple[str, tuple[str, str]]:
    """The band and the column of a group: the activation, and the initialiser with the engine."""
    activation, start = PARTS.get(group.arm, (group.arm, ""))
    return activation, (start, group.beside)


def _label(axes: Any, kind: str) -> None:
    """Label the left axes of a band and set their scales."""
    axes[0].set_ylabel(f"{kind}: output" + ("" if kind in RANGES else "\n(above zero)"))
    for axis, (_, label, _, _) in zip(axes[1:], STATISTICS, strict=True):
        axis.set_ylabel(label)
    if kind not in RANGES:
        plain_log(axes[1])
    else:
        high = axes[1].get_ylim()[1]
        axes[1].set_ylim(-0.08 * high, 1.08 * high)


def _column(axes: Any, kind: str, group: Group | None) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
    if group is None or not group.finished:
        nothing(axes[0], "not run" if group is None else "diverged")
        return
    _violins(axes[0], kind, [run.figures["quantiles"] for run in group.finished])
    for axis, (name, label, colour, marker) in zip(axes[1:], STATISTICS, strict=True):
        _by_layer(axis, group.finished, name, label.partition("\n")[0], colour, marker)
    axes[2].set_ylim(-0.06, 1.06)


def _violins(axis: Any, kind: str, quantiles: Sequence[Sequence[Sequence[float]]]) -> None:
    powers = kind not in RANGES
    low, high = RANGES.get(kind, DECADES)
    edges = np.linspace(low, high, BINS + 1)
    for layer, of_seeds in enumerate(zip(*quantiles, strict=True), start=1):
        half = 0.45 * layer_density(of_seeds, edges, powers=powers)
        axis.fill_betweenx(
            edges,
            layer - np.append(half, half[-1]),
            layer + np.append(half, half[-1]),
            step="post",
            color=BLUE,
            alpha=0.55,
            linewidth=0,
            label="density of the outputs",
        )
        middle = float(np.median(np.concatenate([from_quantiles(levels) for levels in of_seeds])))
        if not powers:
            axis.plot(
                [layer - 0.3, layer + 0.3],
                [middle, middle],
                color="black",
                linewidth=1.4,
                label="median",
            )
    margin = 0.04 * (high - low)
    axis.set_ylim(low - margin, high + margin)
    if powers:
        axis.yaxis.set_major_locator(MultipleLocator(1.0))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda power, _: f"{10**power:g}"))


def _by_layer(
    axis: Any, runs: Sequence[Result], name: str, label: str, colour: str, marker: str
) -> None:
    known = np.array([run.figures[name] for run in runs], np.float64)
    layers = np.arange(1, known.shape[1] + 1)
    for values in known:
        axis.plot(layers, values, marker, color=colour, markersize=3, alpha=0.35, linestyle="none")
    axis.plot(
        layers,
        known.mean(axis=0),
        marker,
        color=colour,
        markersize=5.5,
        linestyle="none",
        label=f"{label}: mean, and each seed",
    )
    theory = runs[0].figures.get("theory", {}).get(name)
    if theory:
        axis.plot(
            layers, theory, color="black", linewidth=1.0, label="theory of wide networks", zorder=1
        )
