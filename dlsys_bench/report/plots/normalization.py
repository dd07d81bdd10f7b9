"""Plots of what the batch norms of a model have learned: their parameters and moving statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Weights
from dlsys_bench.report.picture import BLUE, SLANTED, VERMILLION, WIDTH, save
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.model import Model

# Tensor, title, axis label, initial value.
PANELS = (
    ("gamma", "gamma, the scale", "gamma (factor)", 1.0),
    ("beta", "beta, the shift", "beta (units of the output)", 0.0),
    ("moving_mean", "moving mean", "mean (units of the input)", 0.0),
    ("moving_variance", "moving variance", "variance (input units squared)", 1.0),
)
LOGARITHMIC_FROM = 100.0
"""Positive values whose ratio is at least this are drawn on a logarithmic axis."""


class NormTensors(NamedTuple):
    """The name of a batch norm and its four tensors (C,) by name."""

    name: str
    tensors: Mapping[str, NDArray[Any]]


def batch_norms(model: Model, weights: Weights) -> list[NormTensors]:
    """Return the batch norms of a model, in order, with their tensors."""
    return [
        NormTensors(name, {tensor: weights[f"{name}.{tensor}"] for tensor, *_ in PANELS})
        for name, layer in zip(model.names, model.layers, strict=True)
        if isinstance(layer, BatchNorm)
    ]


def has_density(values: NDArray[Any]) -> bool:
    """Return True if a density can be drawn: there are several finite values, not all equal."""
    return bool(values.size > 1 and np.ptp(values) > 0)


def draw_batch_norms(norms: Sequence[NormTensors], title: str, path: Path) -> Path:
    """Draw the tensors of batch norms as a PNG: one panel per tensor, the layers on the x axis.

    The channels of a layer are drawn as a violin, or, where there is one channel or all values are
    equal, as a box.
    """
    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).flat
    for axis, (tensor, heading, label, initial) in zip(axes, PANELS, strict=True):
        columns = [np.asarray(norm.tensors[tensor], np.float64) for norm in norms]
        _draw_panel(axis, columns, initial)
        axis.set_title(heading, fontsize=10)
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.3)
        axis.set_xlim(0.4, len(norms) + 0.6)
        names = [f"{norm.name} ({len(norm.tensors[tensor])})" for norm in norms]
        slant = SLANTED if len(norms) > 3 else {}
        axis.set_xticks(range(1, len(norms) + 1), names, fontsize=9, **slant)
        if tensor in ("moving_mean", "moving_variance"):
            axis.set_xlabel("layer (its channels), from the input to the output")
    figure.suptitle(title, fontsize=12, parse_math=False)
    figure.legend(
        handles=_handles(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return save(figure, path)


def _draw_panel(axis: Any, columns: Sequence[NDArray[np.float64]], initial: float) -> None:
    # On a logarithmic axis the density is estimated from the logarithms: the density of the values
    # would be distorted.
    values = np.concatenate(columns)
    if values.min() > 0 and values.max() / values.min() >= LOGARITHMIC_FROM:
        columns = [np.log10(column) for column in columns]
        initial = float(np.log10(initial))
        axis.yaxis.set_major_formatter(lambda power, _: f"{float(f'{10**power:.2g}'):g}")
    axis.axhline(initial, color="black", linestyle=(0, (4, 3)), linewidth=1)
    for position, column in enumerate(columns, start=1):
        _draw_column(axis, position, column)


def _draw_column(axis: Any, position: int, values: NDArray[np.float64]) -> None:
    if has_density(values):
        parts = axis.violinplot(
            [values], [position], widths=0.8, showmedians=True, showextrema=False
        )
        parts["bodies"][0].set(facecolor=BLUE, edgecolor=BLUE, alpha=0.35)
        parts["cmedians"].set(color=BLUE, linewidth=2.5, zorder=4)
    else:
        median = {"color": BLUE}
        axis.boxplot(
            [values], positions=[position], widths=0.5, showfliers=False, medianprops=median
        )
    # Points are shifted sideways by multiples of the golden ratio, so that no two coincide.
    shift = 0.25 * ((np.arange(len(values)) * 0.618 + 0.5) % 1 - 0.5)
    size = 12 if len(values) > 1 else 25
    axis.scatter(
        position + shift, values, s=size, color=VERMILLION, alpha=0.7, linewidths=0, zorder=3
    )


def _handles() -> list[Any]:
    point: dict[str, Any] = {
        "color": VERMILLION,
        "marker": "o",
        "markersize": 4,
        "linestyle": "none",
    }
    start: dict[str, Any] = {"color": "black", "linestyle": (0, (4, 3)), "linewidth": 1}
    return [
        Patch(facecolor=BLUE, alpha=0.35, label="density of the channels"),
        Line2D([], [], color=BLUE, linewidth=2, label="median"),
        Line2D([], [], label="a channel", **point),
        Line2D([], [], label="value before training", **start),
    ]
