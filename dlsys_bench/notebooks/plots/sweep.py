"""Loss and accuracy by the parameter of a sweep: the learning rate or the batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dlsys_bench.report.picture import GREEN, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import head, legend, nothing, plain_log, style
from dlsys_bench.report.plots.groups import Group, groups, seeds
from dlsys_bench.report.plots.statistics import Estimate, mean
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import EPOCH_METRICS
from dlsys_bench.studies.registry import studies

LOGARITHMIC_FROM = 10.0
"""A loss whose largest value is this multiple of its smallest is drawn on a logarithmic axis."""


class Swept(NamedTuple):
    """The parameter of a sweep: its label, the base of its axis, and its value in a recipe."""

    label: str
    base: int
    value: Callable[[Mapping[str, Any]], float]

    def of(self, group: Group) -> float:
        """The value in the runs of a group."""
        return self.value(group.runs[0].recipe)


LEARNING_RATE = Swept(
    "learning rate", 10, lambda recipe: float(recipe["optimizer"]["learning_rate"])
)
BATCH_SIZE = Swept("batch size (samples)", 2, lambda recipe: float(recipe["batch_size"]))

METRICS = (
    ("running_loss", "training loss, mean of the last epoch"),
    ("test_accuracy", "test accuracy\n(fraction correct)"),
)


def swept(results: Sequence[Result]) -> Swept:
    """The parameter in which the runs differ most or, if they do not differ, the study's arms."""
    recipes = [run.recipe for run in results]
    found = _most_varied(recipes)
    key = results[0].key
    if found is None and key.study in studies():
        arms = studies()[key.study].arms
        found = _most_varied([arm.recipe(key.tier).to_dict() for arm in arms])
    return found or LEARNING_RATE


def _most_varied(recipes: Sequence[Mapping[str, Any]]) -> Swept | None:
    """The parameter with the most values in some recipes; None if there are as many of both."""
    sizes, rates = (
        len({along.value(recipe) for recipe in recipes}) for along in (BATCH_SIZE, LEARNING_RATE)
    )
    if sizes == rates:
        return None
    return BATCH_SIZE if sizes > rates else LEARNING_RATE


def sweep(results: Sequence[Result], path: Path) -> Path:
    """Draw the running loss and test accuracy of the last epoch by the parameter of a sweep, and
    write a PNG.

    Every seed is a point. The mean of the seeds has its 95% t interval, the best mean is marked,
    and runs that diverged are at the upper edge.
    """
    along = swept(results)
    # Every engine is a line, and its arms are the points.
    lines: dict[str, list[Group]] = {}
    for group in groups(results):
        lines.setdefault(group.beside.partition(", protocol")[0], []).append(group)
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for axis, (metric, label) in zip(axes, METRICS, strict=True):
        _panel(axis, lines, along, metric)
        axis.set_ylabel(
            f"{label}\n(seeds averaged in logarithms)" if logarithmic(lines, metric) else label
        )
        axis.grid(alpha=0.3)
    axes[1].set_xlabel(along.label)
    axes[1].set_xscale("log", base=along.base)
    values = sorted({along.value(run.recipe) for run in results})
    axes[1].set_xticks(values, [f"{value:g}" for value in values])
    axes[1].minorticks_off()
    axes[1].set_xlim(values[0] / along.base**0.6, values[-1] * along.base**0.6)
    head(figure, results, _finding(lines, along))
    legend(figure)
    return save(figure, path)


def last_values(group: Group, metric: str) -> list[float]:
    """A metric of the last epoch of every run that finished and has it."""
    known = (run.metric(metric) for run in group.finished)
    return [value for value in known if value is not None and np.isfinite(value)]


def logarithmic(lines: dict[str, list[Group]], metric: str) -> bool:
    """True if a metric is a loss with so wide a range that its axis, mean and interval are
    logarithmic."""
    every = [
        value for line in lines.values() for group in line for value in last_values(group, metric)
    ]
    return (
        not EPOCH_METRICS[metric].is_fraction
        and bool(every)
        and 0 < LOGARITHMIC_FROM * min(every) <= max(every)
    )


def _panel(axis: Any, lines: dict[str, list[Group]], along: Swept, metric: str) -> None:
    higher = EPOCH_METRICS[metric].higher_is_better
    logs = logarithmic(lines, metric)
    for number, (name, line) in enumerate(lines.items()):
        # Shifted, so that one engine does not cover another.
        aside = along.base ** (0.12 * (number - (len(lines) - 1) / 2))
        points = [(along.of(group) * aside, last_values(group, metric)) for group in line]
        points = sorted((x, values) for x, values in points if values)
        means = [(x, mean(values, logarithmic=logs)) for x, values in points]
        _seeds(axis, name, points, style(number)[0])
        if means:
            _means(axis, name, means, style(number))
            best = (max if higher else min)(means, key=lambda point: point[1].value)
            _star(axis, best[0], best[1].value)
        _diverged(axis, line, along, aside)
    if logs:
        plain_log(axis)
    if not axis.lines:
        nothing(axis)
    elif higher:
        # An interval of few seeds may reach beyond what a fraction can be.
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -0.02), min(high, 1.02))


def _named(name: str, text: str) -> str:
    """A label, after the name of the engine where there are several."""
    return f"{name}: {text}" if name else text


def _seeds(axis: Any, name: str, points: Sequence[tuple[float, list[float]]], colour: str) -> None:
    for x, values in points:
        axis.plot(
            [x] * len(values),
            values,
            ".",
            color=colour,
            alpha=0.45,
            markersize=7,
            zorder=3,
            label=_named(name, "a seed"),
        )


def _means(
    axis: Any, name: str, means: Sequence[tuple[float, Estimate]], look: tuple[str, str, Any]
) -> None:
    colour, marker, dashes = look
    reach = np.concatenate([estimate.bars for _, estimate in means], axis=1)
    axis.errorbar(
        [x for x, _ in means],
        [estimate.value for _, estimate in means],
        yerr=reach,
        color=colour,
        marker=marker,
        markersize=5,
        linestyle=dashes,
        linewidth=1.3,
        zorder=2.6,
        capsize=4 if reach.any() else 0,
        label=_named(name, "mean of the seeds, 95% t interval"),
    )


def _star(axis: Any, x: float, y: float) -> None:
    axis.plot(
        x,
        y,
        "*",
        color=GREEN,
        markersize=19,
        markeredgecolor="black",
        markeredgewidth=0.7,
        zorder=2.5,
        label="best",
    )


def _diverged(axis: Any, line: Sequence[Group], along: Swept, aside: float) -> None:
    """Draw a cross at the upper edge for each arm with runs that diverged, and their number."""
    for group in line:
        diverged = sum(run.status == "diverged" for run in group.runs)
        if diverged:
            at = along.of(group) * aside, 1.0
            axis.plot(
                *at,
                "X",
                color=VERMILLION,
                markersize=10,
                transform=axis.get_xaxis_transform(),
                clip_on=False,
                linestyle="none",
                zorder=5,
                label="diverged (loss not finite)",
            )
            axis.annotate(
                f"{diverged} of {len(group.runs)}",
                at,
                xycoords=axis.get_xaxis_transform(),
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
                color=VERMILLION,
            )


def _finding(lines: dict[str, list[Group]], along: Swept) -> str:
    """The published result and the measured one."""
    published = (
        "nb2: the best learning rate is 0.1"
        if along is LEARNING_RATE
        else "nb2: the training loss rises with the batch size"
    )
    found = []
    for name, line in lines.items():
        known = sorted(
            (along.of(g), values) for g in line if (values := last_values(g, "running_loss"))
        )
        if not known:
            continue
        logs = logarithmic(lines, "running_loss")
        means = [(x, mean(values, logarithmic=logs).value) for x, values in known]
        best, lowest = min(means, key=lambda pair: pair[1])
        count = seeds(len(dict(known)[best]))
        text = f"lowest training loss at {best:g} ({lowest:.3g}, mean of {count})"
        if along is BATCH_SIZE and len(means) > 1:
            rises = int(np.sum(np.diff([value for _, value in means]) > 0))
            text = f"the mean rises in {rises} of {len(means) - 1} steps; {text}"
        found.append(_named(name, text))
    return f"{published}. Here: {'; '.join(found) or 'no run finished'}"
