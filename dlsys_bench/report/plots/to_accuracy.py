"""How long engines train until the network is as accurate as it has to be."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from dlsys_bench.report.picture import BLUE, ORANGE, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import legend, nothing
from dlsys_bench.report.to_accuracy import Group, Workload

LOGARITHMIC_FROM = 5.0
"""Seconds whose largest are so many times the smallest are drawn on a logarithmic axis."""

KINDS = (
    ("seconds", "training alone", BLUE, "o", 0.14),
    ("cold_seconds", "from a cold start", ORANGE, "s", -0.14),
)


def to_accuracy(works: Sequence[Workload], path: Path) -> Path:
    """A panel a workload, a row an engine and device: the seconds of each seed as dots, their
    median with its 95% interval; a run that never reached the target is an arrow from where it
    ended. Writes a PNG."""
    from matplotlib.figure import Figure

    rows = [len(work.groups) for work in works]
    figure = Figure(
        figsize=(WIDTH, 0.42 * sum(rows) + 1.5 * len(works) + 0.5), layout="constrained"
    )
    axes = figure.subplots(
        len(works), 1, squeeze=False, height_ratios=[count + 1 for count in rows]
    )[:, 0]
    for axis, work in zip(axes, works, strict=True):
        for place, group in enumerate(work.groups):
            _group(axis, group, place)
        axis.set_yticks(range(len(work.groups)), [_name(group) for group in work.groups])
        axis.set_ylim(len(work.groups) - 0.5, -0.5)
        _scale(axis, work)
        axis.set_xlabel("seconds")
        axis.grid(axis="x", which="both", alpha=0.3)
        title = textwrap.wrap(f"{work.name}: until {work.target}, {work.target.explained}", 115)
        axis.set_title("\n".join(title), fontsize=9, parse_math=False)
    legend(figure)
    return save(figure, path)


def _name(group: Group) -> str:
    name = group.engine if group.device == "cpu" else f"{group.engine} ({group.device})"
    return f"{name}, {len(group.reached)} of {len(group.runs)}"


def _group(axis: Any, group: Group, place: int) -> None:
    for field, label, colour, marker, aside in KINDS:
        y = place - aside
        seconds = [run[field] for run in group.reached]
        axis.plot(
            seconds,
            [y] * len(seconds),
            marker,
            color=colour,
            alpha=0.45,
            markersize=4,
            linestyle="none",
            label=f"{label}: a seed",
        )
        ends = [run[field] for run in group.runs if not run["reached"] and run[field] is not None]
        if ends:
            axis.plot(
                ends,
                [y] * len(ends),
                ">",
                color=VERMILLION,
                markersize=7,
                linestyle="none",
                zorder=4,
                label="ended without reaching the target",
            )
        median = group.median(field)
        if isfinite(median.middle):
            axis.plot(
                [median.middle],
                [y],
                "|",
                color=colour,
                markersize=13,
                markeredgewidth=2.2,
                linestyle="none",
                label=f"{label}: median, 95% interval",
            )
            if median.low is not None and median.high is not None and isfinite(median.high):
                axis.plot([median.low, median.high], [y, y], color=colour, linewidth=1.6)
    if all(run["seconds"] is None for run in group.runs):
        axis.annotate(
            "no run came to a look",
            (0.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=VERMILLION,
        )


def _scale(axis: Any, work: Workload) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = [
        run[field]
        for group in work.groups
        for run in group.runs
        for field, *_ in KINDS
        if run[field]
    ]
    if not known:
        nothing(axis)
    elif max(known) > LOGARITHMIC_FROM * min(known):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_xlim(left=0)
