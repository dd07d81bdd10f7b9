"""The runs of a user's own training, one panel per metric: each seed, and the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dlsys_bench.report.picture import BLUE, VERMILLION, save
from dlsys_bench.report.plots.frame import GREY, head, legend
from dlsys_bench.report.plots.statistics import mean
from dlsys_bench.runs.result import Result

MOST_METRICS = 8
"""The number of panels; further metrics are named."""

PLOTTED_HEIGHT = 0.6
"""The height of the dots of a version, whose distance is 1."""


class Version(NamedTuple):
    """The runs of one version of a training, by the days on which they were trained."""

    label: str
    runs: tuple[Result, ...]


def versions_of(results: Sequence[Result]) -> list[Version]:
    """Return the versions of a training, the oldest first.

    The code, the packages and the data of one version are the same. The runs of gates, which do not
    record them, are together.
    """
    found: dict[str, list[Result]] = {}
    for run in sorted(results, key=lambda run: str(run.provenance.get("time", ""))):
        found.setdefault(run.key.protocol, []).append(run)
    return [Version(_label(runs), tuple(runs)) for runs in found.values()]


def _label(runs: Sequence[Result]) -> str:
    days = [str(run.provenance.get("time", ""))[:10] for run in runs]
    first, last = days[0] or "unknown day", days[-1]
    when = first if first == last or not last else f"{first} to {last}"
    kind = "version" if runs[0].key.protocol else "runs of gates"
    code = f" {runs[0].key.protocol[:6]}" if runs[0].key.protocol else ""
    return f"{kind}{code}, {when}"


def seeds_of_training(results: Sequence[Result], path: Path) -> Path:
    """Draw each run of a training as a dot, with one panel per metric and one row per version.

    The error bar is the mean with its 95% interval. The range of the reference, the oldest version
    that was calibrated, is shaded over all rows.
    """
    versions = versions_of(results)
    metrics = list(dict.fromkeys(name for run in results for name in run.figures))
    drawn = metrics[:MOST_METRICS]
    height = 1.4 + len(drawn) * (0.9 + 0.45 * len(versions))
    figure = Figure(figsize=(7.2, height), layout="constrained")
    axes = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for axis, metric in zip(axes, drawn, strict=True):
        _draw_metric(axis, metric, versions)
    lost = sum(run.status != "finished" for run in results)
    notes = [
        f"{lost} of {len(results)} runs diverged, not drawn" if lost else "",
        f"not drawn: {', '.join(metrics[MOST_METRICS:])}" if metrics[MOST_METRICS:] else "",
    ]
    head(figure, results, *notes)
    legend(figure)
    return save(figure, path)


def _draw_metric(axis: Any, metric: str, versions: Sequence[Version]) -> None:
    reference = next((each for each in versions if each.runs[0].key.protocol), versions[0])
    for row, version in enumerate(versions):
        values = [value for run in version.runs if (value := run.metric(metric)) is not None]
        if not values:
            continue
        if version is reference:
            label = "range of the reference"
            axis.axvspan(min(values), max(values), color=BLUE, alpha=0.12, lw=0, label=label)
        # Equal figures are beside each other.
        heights = row + PLOTTED_HEIGHT * (np.arange(len(values)) / len(values) - 0.5)
        axis.plot(values, heights, "o", color=GREY, ms=3.5, alpha=0.8, label="seed")
        found = mean(values)
        axis.errorbar(
            [found.value],
            [row],
            xerr=found.bars,
            fmt="|",
            color=VERMILLION,
            ms=14,
            capsize=4,
            label="mean, 95% interval",
        )
    axis.set_yticks(range(len(versions)), [f"{v.label} ({len(v.runs)})" for v in versions])
    axis.set_ylim(len(versions) - 0.5, -0.5)
    axis.set_xlabel(metric, parse_math=False)
    axis.grid(axis="x", alpha=0.3)
