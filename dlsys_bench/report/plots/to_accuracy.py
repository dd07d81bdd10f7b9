"""Plot of the time that engines train until the network reaches a target accuracy."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dlsys_bench.report.picture import BLUE, ORANGE, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import legend, nothing
from dlsys_bench.report.to_accuracy import EngineRuns, TargetResults

LOGARITHMIC_FROM = 5.0
"""Times whose ratio is above this are drawn on a logarithmic axis."""

# Field, label, colour, marker and offset of the two times of a run.
TIMES = (
    ("seconds", "training alone", BLUE, "o", 0.14),
    ("cold_seconds", "from a cold start", ORANGE, "s", -0.14),
)


def to_accuracy(results: Sequence[TargetResults], path: Path) -> Path:
    """Draw the times as a PNG: one panel per target, with one row per engine and device.

    Dots are the seeds, and bars their median with its 95% confidence interval. A run that did not
    reach the target is an arrow that starts where it ended.
    """
    rows = [len(result.engines) for result in results]
    height = 0.42 * sum(rows) + 1.5 * len(results) + 0.5
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    ratios = [count + 1 for count in rows]
    axes = figure.subplots(len(results), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axis, result in zip(axes, results, strict=True):
        for row, engine in enumerate(result.engines):
            _draw_engine(axis, engine, row)
        axis.set_yticks(range(len(result.engines)), [_name(engine) for engine in result.engines])
        axis.set_ylim(len(result.engines) - 0.5, -0.5)
        _scale(axis, result)
        axis.set_xlabel("seconds")
        axis.grid(axis="x", which="both", alpha=0.3)
        title = f"{result.name}: until {result.target}, {result.target.explanation}"
        axis.set_title("\n".join(textwrap.wrap(title, 115)), fontsize=9, parse_math=False)
    legend(figure)
    return save(figure, path)


def _name(engine: EngineRuns) -> str:
    name = engine.engine if engine.device == "cpu" else f"{engine.engine} ({engine.device})"
    return f"{name}, {len(engine.reached)} of {len(engine.runs)}"


def _draw_engine(axis: Any, engine: EngineRuns, row: int) -> None:
    for field, label, colour, marker, offset in TIMES:
        y = row - offset
        seconds = [run[field] for run in engine.reached]
        dots = {"color": colour, "alpha": 0.45, "markersize": 4, "linestyle": "none"}
        axis.plot(seconds, [y] * len(seconds), marker, label=f"{label}: a seed", **dots)
        failures = [run for run in engine.runs if not run["reached"]]
        if ends := [run[field] for run in failures if run[field] is not None]:
            arrows = {"color": VERMILLION, "markersize": 7, "linestyle": "none", "zorder": 4}
            text = "ended without reaching the target"
            axis.plot(ends, [y] * len(ends), ">", label=text, **arrows)
        _draw_median(axis, engine, field, (y, label, colour))
    if all(run["seconds"] is None for run in engine.runs):
        axis.annotate(
            "no run was evaluated",
            (0.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=VERMILLION,
        )


def _draw_median(axis: Any, engine: EngineRuns, field: str, look: tuple[float, str, str]) -> None:
    y, label, colour = look
    median = engine.median(field)
    if not isfinite(median.middle):
        return
    bar = {"color": colour, "markersize": 13, "markeredgewidth": 2.2, "linestyle": "none"}
    axis.plot([median.middle], [y], "|", label=f"{label}: median, 95% interval", **bar)
    if median.low is not None and median.high is not None and isfinite(median.high):
        axis.plot([median.low, median.high], [y, y], color=colour, linewidth=1.6)


def _scale(axis: Any, result: TargetResults) -> None:
    runs = [run for engine in result.engines for run in engine.runs]
    known = [run[field] for run in runs for field, *_ in TIMES if run[field]]
    if not known:
        nothing(axis)
    elif max(known) > LOGARITHMIC_FROM * min(known):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_xlim(left=0)
