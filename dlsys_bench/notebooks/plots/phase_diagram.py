"""Dying ReLU by depth and width: measured fractions, and theoretical bounds at birth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsys_bench.notebooks.studies.phase_diagram import PHASE_DIAGRAM, SYMMETRIC, born_dead_bounds
from dlsys_bench.report.picture import save
from dlsys_bench.report.plots.frame import head, labelled, nothing, style
from dlsys_bench.report.plots.groups import Group, groups, not_drawn, seeds
from dlsys_bench.report.plots.statistics import fraction
from dlsys_bench.runs.result import Result

# A perceptually uniform map that is also suitable for colour-blind readers.
COLOURS = "viridis"
QUANTITIES = (("dead", "dead: one constant"), ("flat", "flat: variance at most 1e-3"))
LEVELS = (0.1, 0.5, 0.9)
SHOWN = (1, 2, 3, 5)
"""The widths that are drawn as lines."""


class Diagram(NamedTuple):
    """Fractions by depth (rows) and width (columns) over all networks of all seeds, and the number
    of networks."""

    depths: list[int]
    widths: list[int]
    networks: int
    fractions: dict[str, NDArray[np.float64]]


def pooled(runs: Sequence[Result]) -> Diagram:
    """The diagram of all runs that have the depths and widths of the first."""
    first = runs[0].figures
    same = [
        r
        for r in runs
        if (r.figures["depths"], r.figures["widths"]) == (first["depths"], first["widths"])
    ]
    weights = np.array([run.figures["networks"] for run in same], np.float64)
    fractions = {
        name: np.average([run.figures[name] for run in same], axis=0, weights=weights)
        for name, _ in QUANTITIES
    }
    return Diagram(first["depths"], first["widths"], int(weights.sum()), fractions)


def bounds(
    depths: Sequence[int], widths: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lower and the upper bound of the born-dead probability, each (depths, widths)."""
    both = np.array([[born_dead_bounds(depth, width) for width in widths] for depth in depths])
    return both[..., 0], both[..., 1]


def has_theory(arm: str) -> bool:
    """True if the bounds hold for an arm: ReLU at birth, symmetric weights, zero biases."""
    return arm in {
        known.name
        for known in PHASE_DIAGRAM.arms
        if known.options["start"] in SYMMETRIC and known.options["slope"] == 0.0
    }


def phase_diagram(results: Sequence[Result], path: Path) -> Path:
    """Draw one column per arm and write a PNG.

    The upper part shows heat maps of the dead and the flat fraction by depth and width with the
    contours of the theoretical bounds; the lower part shows the dead fraction by depth between the
    bounds, with one panel per width.
    """
    grouped = groups(results)
    proven = [group for group in grouped if has_theory(group.arm) and group.finished]
    figure = Figure(
        figsize=(max(1.45 * len(grouped) + 0.9, 7.5), 10.0 if proven else 7.0), layout="constrained"
    )
    parts: Any = figure.subfigures(
        1 + bool(proven), 1, height_ratios=[2.1, 1.0][: 1 + bool(proven)], squeeze=False
    )
    upper = parts[0][0]
    axes = upper.subplots(len(QUANTITIES), len(grouped), sharex=True, sharey=True, squeeze=False)
    image = None
    for column, group in enumerate(grouped):
        for axis, (name, _) in zip(axes[:, column], QUANTITIES, strict=True):
            image = _map(axis, group, name) or image
        axes[0][column].set_title(_title(group), fontsize=9)
        axes[-1][column].set_xlabel("width (units)")
    for axis, (_, label) in zip(axes[:, 0], QUANTITIES, strict=True):
        axis.set_ylabel(f"{label}\n\ndepth (hidden layers)")
    if image is not None:
        upper.colorbar(image, ax=axes, label="fraction of the networks", shrink=0.7, pad=0.01)
    if proven:
        _lines(parts[1][0], proven)
    head(
        figure,
        results,
        "trained: for two epochs; born: before any training. Contours at 0.1, 0.5 and 0.9: the "
        "lower bound of the dead fraction dashed, the upper bound solid"
        if proven
        else "",
        not_drawn(grouped),
    )
    return save(figure, path)


def _title(group: Group) -> str:
    """The parts of the arm's name and the number of networks per cell, on separate lines."""
    parts = group.arm.replace("/", "\n", 1).replace(", ", "\n").replace("leaky_relu", "leaky")
    of = f"{pooled(group.finished).networks:,} per cell" if group.finished else "diverged"
    return "\n".join(part for part in (parts, group.beside, of) if part)


def _map(axis: Any, group: Group, name: str) -> Any:
    """Draw a heat map, with cells of one size even if the depths or widths are not consecutive."""
    if not group.finished:
        nothing(axis, "diverged")
        return None
    diagram = pooled(group.finished)
    image = axis.imshow(
        diagram.fractions[name], cmap=COLOURS, vmin=0.0, vmax=1.0, aspect="auto", origin="lower"
    )
    _ticks(axis.set_xticks, diagram.widths, 6)
    _ticks(axis.set_yticks, diagram.depths, 8)
    if (
        name == "dead"
        and has_theory(group.arm)
        and min(len(diagram.widths), len(diagram.depths)) > 1
    ):
        low, high = bounds(diagram.depths, diagram.widths)
        for theory, dashes in ((low, "dashed"), (high, "solid")):
            # White on black is visible on every colour of the map.
            for colour, wide in (("black", 2.4), ("white", 1.0)):
                axis.contour(theory, LEVELS, colors=colour, linewidths=wide, linestyles=dashes)
    return image


def _ticks(set_ticks: Any, values: Sequence[int], most: int) -> None:
    places = [
        place
        for place, value in enumerate(values)
        if len(values) <= most or value == 1 or value % 5 == 0
    ]
    set_ticks(places, [str(values[place]) for place in places])


def _lines(part: Any, proven: Sequence[Group]) -> None:
    diagrams = [(group, pooled(group.finished)) for group in proven]
    widths = [width for width in SHOWN if all(width in diagram.widths for _, diagram in diagrams)]
    if not widths:
        return
    axes = part.subplots(1, len(widths), sharey=True, squeeze=False)[0]
    for axis, width in zip(axes, widths, strict=True):
        longest = np.arange(1, max(max(diagram.depths) for _, diagram in diagrams) + 1)
        low, high = bounds(longest.tolist(), [width])
        axis.fill_between(
            longest, low[:, 0], high[:, 0], color="#BBBBBB", linewidth=0, label="between the bounds"
        )
        axis.plot(longest, low[:, 0], color="black", linewidth=0.9, linestyle="dashed")
        axis.plot(longest, high[:, 0], color="black", linewidth=0.9)
        for number, (group, diagram) in enumerate(diagrams):
            _measured(axis, number, len(diagrams), group, diagram, width)
        axis.set_title(f"width {width}", fontsize=9)
        axis.set_xlabel("depth (hidden layers)")
        axis.set_ylim(-0.03, 1.03)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("dead at birth\n(fraction of the networks)")
    handles = labelled(axes)
    part.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=9,
    )


def _measured(axis: Any, number: int, of: int, group: Group, diagram: Diagram, width: int) -> None:
    colour, marker, _ = style(number)
    shares = diagram.fractions["dead"][:, diagram.widths.index(width)]
    found = [fraction(round(share * diagram.networks), diagram.networks) for share in shares]
    aside = 0.36 * (number - (of - 1) / 2)
    reach = np.concatenate([estimate.bars for estimate in found], axis=1)
    name = group.label.removeprefix("born/")
    axis.errorbar(
        np.array(diagram.depths) + aside,
        [estimate.value for estimate in found],
        yerr=reach,
        color=colour,
        marker=marker,
        markersize=3,
        linestyle="none",
        capsize=1.5,
        linewidth=0.9,
        label=f"{name}: measured, 95% interval ({seeds(len(group.finished))})",
    )
