"""The learning-rate range test: the loss of each step while the learning rate grows. Smith 2015,
section 3.3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlsys_bench.notebooks.plots.steps import by_step
from dlsys_bench.report.picture import BLUE, ORANGE, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import GREY, head, labelled, nothing, plain_log, style
from dlsys_bench.report.plots.groups import Group, groups, not_drawn, seeds
from dlsys_bench.report.plots.statistics import smooth
from dlsys_bench.runs.result import Result

DECADES = 1 / 3
"""The powers of ten of the learning rate that the window of the smoothing spans."""
DIVERGED_AT = 4.0
"""The loss has diverged when it exceeds this multiple of its lowest value, as in the range tests of
fastai and Lightning."""
PUBLISHED_BEST = 0.1
"""The best learning rate of nb2's sweep of eleven full trainings."""


Test = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The learning rates and the losses of the steps of a run."""


class Reading(NamedTuple):
    """The result of a range test: the learning rates of the steepest descent, of the lowest loss
    and of the divergence (None if there is none), and the smoothed loss at each step."""

    steepest: float
    lowest: float
    diverged: float | None
    smoothed: NDArray[np.float64]


def read_off(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> Reading:
    """The result of one range test with increasing rates (N,) and losses (N,), which may be
    non-finite.

    The logarithms of the losses are smoothed, because a single loss after the divergence would
    outweigh all earlier ones.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(np.where(losses > 0, losses, np.nan))
    span = max(float(np.log10(rates[-1] / rates[0])), DECADES)
    width = max(int(len(losses) * DECADES / span) // 2 * 2 + 1, 3)
    smoothed = np.exp(smooth(logs, width))
    broken = [
        at
        for at in range(1, len(smoothed))
        if smoothed[at] > DIVERGED_AT * np.nanmin(smoothed[: at + 1])
    ]
    lost = np.flatnonzero(~np.isfinite(losses))
    ends = ([broken[0]] if broken else []) + ([int(lost[0])] if len(lost) else [])
    end = min(ends, default=len(smoothed))
    before = np.where(np.isfinite(smoothed), smoothed, np.inf)[: max(end, 2)]
    lowest = int(np.argmin(before))
    # Smoothed again, because differentiation amplifies the remaining noise.
    falling = slice(lowest + 1)
    slopes = (
        np.gradient(smooth(before[falling], width), np.log10(rates[falling])) if lowest else [0.0]
    )
    steepest = int(np.argmin(slopes))
    return Reading(
        float(rates[steepest]), float(rates[lowest]), float(rates[end]) if ends else None, smoothed
    )


def range_test(results: Sequence[Result], path: Path) -> Path:
    """Draw the loss by learning rate, with one panel per arm, and write a PNG.

    A panel shows the steps of the first seed, the smoothed loss of every seed, and the medians of
    the steepest descent, the lowest loss and the divergence.
    """
    grouped = groups(results)
    figure = Figure(figsize=(WIDTH, 5.4 * len(grouped) + 0.6), layout="constrained")
    axes = figure.subplots(len(grouped), 1, squeeze=False)[:, 0]
    for axis, group in zip(axes, grouped, strict=True):
        _panel(axis, group)
        axis.set_title(f"{group.label} ({seeds(len(group.runs))})", fontsize=10)
        axis.set_ylabel("training loss of a step")
        axis.set_xlabel("learning rate of the step")
        axis.grid(alpha=0.3)
    head(figure, results, not_drawn(grouped, what="diverged, drawn until then"))
    return save(figure, path)


def _panel(axis: Any, group: Group) -> None:
    tests = [(by_step(run, "learning_rate"), by_step(run, "loss")) for run in group.runs]
    tests = [(rates, losses) for rates, losses in tests if np.isfinite(losses).sum() > 2]
    if not tests:
        nothing(axis, "diverged before the steps of an epoch were stored")
        return
    readings = [read_off(*test) for test in tests]
    _curves(axis, tests, readings)
    _marks(axis, readings)
    axis.set_xscale("log")
    start = readings[0].smoothed[np.isfinite(readings[0].smoothed)][0]
    lowest = min(float(np.nanmin(reading.smoothed)) for reading in readings)
    # The loss after the divergence is orders of magnitude larger and would flatten the rest.
    axis.set_ylim(lowest / 2, max(start, lowest) * 10)
    plain_log(axis)
    # Each panel has its own legend, because the legend states the result of the panel.
    labels = labelled([axis])
    axis.legend(
        list(labels.values()),
        list(labels),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=2,
        frameon=False,
        fontsize=9,
    )


def _curves(axis: Any, tests: Sequence[Test], readings: Sequence[Reading]) -> None:
    """The steps of the first seed, and the smoothed loss of each seed."""
    rates, losses = tests[0]
    axis.plot(
        rates, losses, ".", color="#B0B0B0", markersize=2.5, label="a step, first seed", zorder=1
    )
    for (known, _), reading in zip(tests, readings, strict=True):
        axis.plot(
            known,
            reading.smoothed,
            color=BLUE,
            linewidth=1.3,
            alpha=0.8,
            label="a seed, smoothed",
            zorder=2,
        )


def _marks(axis: Any, readings: Sequence[Reading]) -> None:
    """Mark the readings at their medians, and the published learning rate."""
    marks: tuple[tuple[str, list[float | None], str], ...] = (
        ("steepest descent", [r.steepest for r in readings], ORANGE),
        ("lowest loss", [r.lowest for r in readings], style(2)[0]),
        (
            f"divergence (over {DIVERGED_AT:g} times the lowest)",
            [r.diverged for r in readings],
            VERMILLION,
        ),
    )
    for number, (name, found, colour) in enumerate(marks):
        known = [rate for rate in found if rate is not None]
        if known:
            _mark(axis, _text(name, known, len(found)), known, colour, style(number + 1)[2])
    axis.axvline(
        PUBLISHED_BEST,
        color=GREY,
        linestyle=(0, (1, 2)),
        label="best learning rate of nb2's sweep: 0.1",
    )


def _text(name: str, rates: Sequence[float], of: int) -> str:
    """The median and the range of a reading, and the number of seeds that have it."""
    text = f"{name}: {float(np.median(rates)):.2g}"
    if len(rates) > 1:
        text += f" ({min(rates):.2g} to {max(rates):.2g})"
    if len(rates) < of:
        text += f", in {len(rates)} of {of}"
    return text


def _mark(axis: Any, label: str, rates: Sequence[float], colour: str, dashes: Any) -> None:
    if len(rates) > 1:
        axis.axvspan(min(rates), max(rates), color=colour, alpha=0.12, linewidth=0)
    middle = float(np.median(rates))
    axis.axvline(middle, color=colour, linestyle=dashes, linewidth=1.6, label=label)
