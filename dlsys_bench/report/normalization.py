"""What the batch norms of a model have learned and seen, by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Weights
from dlsys_bench.report.picture import BLUE, SLANTED, VERMILLION, WIDTH, save
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.model import Model

# Tensor, title, axis label, value before training.
PANELS = (
    ("gamma", "gamma, the scale", "gamma (factor)", 1.0),
    ("beta", "beta, the shift", "beta (units of the output)", 0.0),
    ("moving_mean", "moving mean", "mean (units of the input)", 0.0),
    ("moving_variance", "moving variance", "variance (input units squared)", 1.0),
)
# From here on the smallest values of a linear axis lie on its rim.
LOGARITHMIC_FROM = 100.0


class Norm(NamedTuple):
    """One batch norm: its name and its four tensors (C,) by name."""

    name: str
    tensors: Mapping[str, NDArray[Any]]


def batch_norms(model: Model, weights: Weights) -> list[Norm]:
    """The batch norms of a model in order, with what they hold."""
    return [
        Norm(name, {tensor: weights[f"{name}.{tensor}"] for tensor, *_ in PANELS})
        for name, layer in zip(model.names, model.layers, strict=True)
        if isinstance(layer, BatchNorm)
    ]


def as_violin(values: NDArray[Any]) -> bool:
    """Whether a density can be drawn: several finite values that are not all the same."""
    return bool(values.size > 1 and np.ptp(values) > 0)


def draw_batch_norms(norms: Sequence[Norm], title: str, path: Path) -> Path:
    """Four panels, the layers in order on x: the channels of each as a violin, or as a box with
    points where a layer has one channel or all its values are the same."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    for axis, (tensor, heading, label, start) in zip(
        figure.subplots(2, 2, sharex=True).flat, PANELS, strict=True
    ):
        columns = [np.asarray(norm.tensors[tensor], np.float64) for norm in norms]
        _panel(axis, columns, start)
        axis.set_title(heading, fontsize=10)
        axis.set_ylabel(label)
        axis.grid(axis="y", alpha=0.3)
        axis.set_xlim(0.4, len(norms) + 0.6)
        names = [f"{norm.name} ({len(norm.tensors[tensor])})" for norm in norms]
        slant = SLANTED if len(norms) > 3 else {}
        axis.set_xticks(range(1, len(norms) + 1), names, fontsize=8, **slant)
        if tensor in ("moving_mean", "moving_variance"):
            axis.set_xlabel("layer (its channels), from the input to the output")
    figure.suptitle(title, fontsize=12, parse_math=False)
    figure.legend(
        handles=_handles(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return save(figure, path)


def _panel(axis: Any, columns: Sequence[NDArray[np.float64]], start: float) -> None:
    """One panel; on a logarithmic axis the densities are those of the logarithms, or they would be
    drawn crooked."""
    every = np.concatenate(columns)
    logarithmic = every.min() > 0 and every.max() / every.min() >= LOGARITHMIC_FROM
    if logarithmic:
        columns = [np.log10(values) for values in columns]
        start = float(np.log10(start))
        axis.yaxis.set_major_formatter(lambda power, _: f"{float(f'{10**power:.2g}'):g}")
    axis.axhline(start, color="black", linestyle=(0, (4, 3)), linewidth=1)
    for place, values in enumerate(columns, start=1):
        if as_violin(values):
            parts = axis.violinplot(
                [values], [place], widths=0.8, showmedians=True, showextrema=False
            )
            parts["bodies"][0].set(facecolor=BLUE, edgecolor=BLUE, alpha=0.35)
            parts["cmedians"].set(color=BLUE, linewidth=2.5, zorder=4)
        else:
            axis.boxplot(
                [values],
                positions=[place],
                widths=0.5,
                showfliers=False,
                medianprops={"color": BLUE},
            )
        # Spread sideways by multiples of the golden ratio, so that no two channels lie upon each
        # other.
        aside = 0.25 * ((np.arange(len(values)) * 0.618 + 0.5) % 1 - 0.5)
        axis.scatter(
            place + aside,
            values,
            s=12 if len(values) > 1 else 25,
            color=VERMILLION,
            alpha=0.7,
            linewidths=0,
            zorder=3,
        )


def _handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(facecolor=BLUE, alpha=0.35, label="density of the channels"),
        Line2D([], [], color=BLUE, linewidth=2, label="median"),
        Line2D(
            [], [], color=VERMILLION, marker="o", markersize=4, linestyle="none", label="a channel"
        ),
        Line2D(
            [], [], color="black", linestyle=(0, (4, 3)), linewidth=1, label="value before training"
        ),
    ]
