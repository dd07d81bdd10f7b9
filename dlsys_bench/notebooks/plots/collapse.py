"""The fraction of collapsed networks, by arm and by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.studies.dying_relu import DYING_RELU
from dlsys_bench.report.picture import BLUE, ORANGE, VERMILLION, WIDTH, save
from dlsys_bench.report.plots.frame import GREY, head, legend
from dlsys_bench.report.plots.groups import Group, groups, not_drawn, seeds
from dlsys_bench.report.plots.statistics import Estimate, fraction
from dlsys_bench.runs.result import Result

# The figure that a rule counts, its label, colour and marker, and its place in the arm's row.
RULES = (
    ("flat", "flat: variance at most 1e-3 (nb2's rule)", BLUE, "o", 0.24),
    ("identical", "identical predictions (nb4's rule)", ORANGE, "s", 0.0),
)
# The claim on an arm, and the number of epochs that it refers to. nb4's kernel scale is illegible,
# so that its ReLU figure is shown with both arms that stand in for it.
PUBLISHED = {
    "relu": ("nb2.relu.collapse", 2),
    "leaky_relu": ("nb2.leaky.collapse", 2),
    "nb4/relu": ("nb4.relu.collapse", 20),
    "nb4/relu, normal(1)": ("nb4.relu.collapse", 20),
    "nb4/leaky_relu on |x sin 5x|": ("nb4.leaky.collapse", 20),
}
ZOOM = 0.8
"""The second panel magnifies the fractions from here to one, where most of them are."""


def pooled(runs: Sequence[Result], rule: str) -> tuple[int, int]:
    """The number of collapsed networks of all runs by a rule, and the number of networks."""
    return sum(int(run.figures[rule]) for run in runs), sum(
        int(run.figures["networks"]) for run in runs
    )


def published(run: Result) -> tuple[str, Estimate] | None:
    """The notebook and its fraction with a binomial interval; None if it publishes no fraction for
    the arm and number of epochs of the run."""
    name, epochs = PUBLISHED.get(run.key.arm, ("", 0))
    for claim in claims():
        if claim["id"] == name and run.recipe.get("epochs") == epochs:
            return claim["source"], fraction(round(claim["value"] * claim["n"]), claim["n"])
    return None


def collapse(results: Sequence[Result], path: Path) -> Path:
    """Draw one row per arm and write a PNG.

    A row shows the fraction of all networks by either rule with its 95% Clopper-Pearson interval, a
    tick for each run, and below it the published fraction with its interval.
    """
    grouped = groups(results)
    figure = Figure(figsize=(WIDTH + 1.5, 0.85 * len(grouped) + 2.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, width_ratios=[1.0, 1.25])
    for axis in axes:
        for row, group in enumerate(grouped):
            _row(axis, row, group, numbers=axis is axes[-1])
            axis.axhline(row + 0.5, color="#D0D0D0", linewidth=0.8)
        axis.set_xlabel("collapsed networks\n(fraction of those that finished)")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_ylim(len(grouped) - 0.5, -0.5)
    axes[0].set_yticks(range(len(grouped)), [_name(group) for group in grouped])
    axes[0].set_xlim(-0.03, 1.03)
    axes[1].set_xlim(ZOOM - 0.005, 1.003)
    axes[1].set_title(f"magnified from {ZOOM:g}", fontsize=10)
    failed = {
        group.label: sum(run.figures.get("failed", 0) for run in group.finished)
        for group in grouped
    }
    lost = ", ".join(f"{label}: {count}" for label, count in failed.items() if count)
    head(
        figure,
        results,
        "networks that predict one constant; the filled marker is the rule that judges the arm",
        f"networks that diverged, omitted: {lost}" if lost else "",
        not_drawn(grouped, what="runs that diverged"),
    )
    legend(figure)
    return save(figure, path)


def _name(group: Group) -> str:
    networks = pooled(group.finished, "flat")[1]
    return f"{group.label}\n{networks:,} networks, {seeds(len(group.finished))}"


def _row(axis: Any, row: int, group: Group, *, numbers: bool) -> None:
    if not group.finished:
        if not numbers:
            axis.text(0.5, row, "every run diverged", ha="center", va="center", color=GREY)
        return
    judged = next((arm.options["rule"] for arm in DYING_RELU.arms if arm.name == group.arm), "")
    for rule, label, colour, marker, up in RULES:
        count, of = pooled(group.finished, rule)
        found = fraction(count, of)
        face = colour if rule == judged else "white"
        place = row - up
        for run in group.finished:
            share = fraction(int(run.figures[rule]), int(run.figures["networks"])).value
            axis.plot(
                share, place, "|", color=colour, alpha=0.5, markersize=11, label="one run", zorder=2
            )
        _estimate(axis, place, found, colour, marker, face, label)
        if numbers:
            _write(axis, place, rule, found)
    printed = published(group.finished[0])
    if printed:
        source, found = printed
        _estimate(axis, row + 0.24, found, VERMILLION, "D", "none", "published, of 1000 networks")
        if numbers:
            _write(axis, row + 0.24, source, found)


def _estimate(
    axis: Any, place: float, found: Estimate, colour: str, marker: str, face: str, label: str
) -> None:
    axis.errorbar(
        [found.value],
        [place],
        xerr=found.bars,
        color=colour,
        marker=marker,
        markersize=7,
        markerfacecolor=face,
        linestyle="none",
        capsize=3.5,
        zorder=3,
        label=label,
    )


def _write(axis: Any, place: float, name: str, found: Estimate) -> None:
    """Write an estimate at the right of the panel."""
    axis.annotate(
        f"{name} {found.value:.4f} ({found.low:.4f} to {found.high:.4f})",
        (1.0, place),
        fontsize=8,
        xycoords=axis.get_yaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )
