"""Plot of training throughput and memory by the size of the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dlsys_bench.report.picture import WIDTH, save
from dlsys_bench.report.plots.frame import legend, plain_log, style
from dlsys_bench.report.speed import (
    VARIABLES,
    SeriesKey,
    SpeedPoint,
    Variable,
    memory,
    series,
    workload,
)


def rate(point: SpeedPoint) -> float | None:
    """Return the throughput in samples per second."""
    return float(point["samples_a_second"])


RATE = "samples per second"
MEMORY = "peak memory (MiB)"
"""That of the process; on a GPU, of the framework."""
QUANTITIES: dict[str, Callable[[SpeedPoint], float | None]] = {RATE: rate, MEMORY: memory}

# Names of the fields in the legend, where they differ from the fields'.
WORDS = {"batch_size": "batch", "replicas": "networks"}


class Panel(NamedTuple):
    """A panel of the plot: a quantity of one workload against a variable."""

    variable: Variable
    workload: str
    quantity: str
    lines: Mapping[SeriesKey, Sequence[SpeedPoint]]


def speed(points: Sequence[SpeedPoint], path: Path) -> Path | None:
    """Draw the throughput against each variable, and the memory against the batch size, as a PNG.

    There is one panel per workload, with one line per engine and device. Returns None, and draws
    nothing, if no variable has two values.
    """
    panels = _panels(points)
    if not panels:
        return None
    rows = (len(panels) + 1) // 2
    figure = Figure(figsize=(WIDTH, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    engines = list(dict.fromkeys(point["engine"] for point in points))
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, panel, engines)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    legend(figure)
    return save(figure, path)


def _panels(points: Sequence[SpeedPoint]) -> list[Panel]:
    panels = []
    for variable in VARIABLES:
        found = series(points, variable)
        for name in dict.fromkeys(workload(dict(key)) for key in found):
            lines = {key: line for key, line in found.items() if workload(dict(key)) == name}
            panels.append(Panel(variable, name, RATE, lines))
            if variable.field == "batch_size":
                panels.append(Panel(variable, name, MEMORY, lines))
    return panels


def _draw_panel(axis: Any, panel: Panel, engines: Sequence[str]) -> None:
    field, value = panel.variable.field, QUANTITIES[panel.quantity]
    for name, (key, line) in zip(_names(list(panel.lines)), panel.lines.items(), strict=True):
        colour, marker, _ = style(engines.index(dict(key)["engine"]))
        x, y = [point[field] for point in line], [value(point) for point in line]
        dashes = "-" if dict(key)["device"] == "cpu" else "--"
        look = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.3}
        # An unknown value (None) becomes NaN, which matplotlib draws as a gap.
        axis.plot(x, np.array(y, float), label=name, linestyle=dashes, **look)
    axis.set_xscale("log", base=2)
    ticks = sorted({point[field] for line in panel.lines.values() for point in line})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    plain_log(axis)
    axis.set_xlabel(panel.variable.label)
    axis.set_ylabel(panel.quantity)
    axis.set_title(panel.workload, fontsize=10, parse_math=False)
    axis.grid(alpha=0.3)


def _names(keys: Sequence[SeriesKey]) -> list[str]:
    """Return a name for each line: its engine, and the fields in which the lines differ."""
    lines = [dict(key) for key in keys]
    differing = [
        name
        for name in lines[0]
        if name not in ("engine", "study") and len({line[name] for line in lines}) > 1
    ]
    return [
        ", ".join(
            [line["engine"], *(f"{WORDS.get(name, '')} {line[name]}".strip() for name in differing)]
        )
        for line in lines
    ]
