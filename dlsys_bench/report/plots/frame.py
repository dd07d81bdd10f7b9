"""The common parts of the plots of results: title, legend, line styles and axes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dlsys_bench.report.picture import BLUE, GREEN, ORANGE, VERMILLION
from dlsys_bench.runs.result import Result

SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#6E6E6E"

# Colour, marker and dashes. Styles differ in all three, so that they do not rely on colour.
STYLES: tuple[tuple[str, str, Any], ...] = (
    (BLUE, "o", "solid"),
    (ORANGE, "s", (0, (5, 2))),
    (GREEN, "^", (0, (1, 1))),
    (PURPLE, "D", (0, (5, 1, 1, 1))),
    (SKY, "v", (0, (3, 1, 1, 1, 1, 1))),
    (GREY, "P", (0, (2, 2))),
)
PUBLISHED: dict[str, Any] = {
    "color": VERMILLION,
    "marker": "D",
    "markerfacecolor": "none",
    "linestyle": "none",
}
"""The style of a published value, in every plot."""


LOG_TICKS = {5.0: (1.0, 2.0, 3.0, 5.0, 7.0), 1e3: (1.0, 2.0, 5.0)}
"""The multiples of powers of ten that have ticks, by the ratio below which the axis lies."""


def style(number: int) -> tuple[str, str, Any]:
    """Return the colour, marker and dashes of a line, given its number. The styles repeat."""
    return STYLES[number % len(STYLES)]


def head(figure: Figure, results: Sequence[Result], *notes: str) -> None:
    """The title over the picture: study, dataset and tier, and a line for each note that is not
    empty."""
    first = results[0]
    engines = ", ".join(
        dict.fromkeys(
            f"{run.key.engine} ({run.key.device})" if run.key.device else run.key.engine
            for run in results
        )
    )
    inches = figure.get_figwidth()
    datasets = ", ".join(dict.fromkeys(run.key.dataset for run in results))
    place = f" on {datasets}, tier {first.key.tier}" if datasets else ""
    lines = [f"{first.key.study}{place}, {engines}"]
    lines += [line for note in notes if note for line in textwrap.wrap(note, int(inches * 12))]
    figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)


def labelled(axes: Iterable[Any]) -> dict[str, Any]:
    """The handle of every label in some axes, each label once."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return found


def legend(figure: Figure) -> None:
    """Draw one legend below the panels, with every label once, in as many columns as fit."""
    found = labelled(figure.axes)
    if found:
        columns = max(int(figure.get_figwidth() / (0.064 * max(map(len, found)) + 0.65)), 1)
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=min(columns, len(found), 6),
            frameon=False,
            fontsize=9,
        )


def plain_log(axis: Any) -> None:
    """Make the y axis logarithmic, with plain numbers as tick labels.

    An axis of less than three decades has ticks at 1, 2 and 5 times the powers of ten, and one of
    less than half a decade also at 3 and 7 times these.
    """
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    subs = next((ticks for ratio, ticks in LOG_TICKS.items() if high < ratio * low), (1.0,))
    axis.yaxis.set_major_locator(LogLocator(subs=subs))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def nothing(axis: Any, text: str = "no run has figures to draw") -> None:
    """Write the reason why a panel is empty into it."""
    axis.text(
        0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, color=GREY, wrap=True
    )
