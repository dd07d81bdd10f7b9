"""The section about the history of figures."""

from __future__ import annotations

from collections.abc import Sequence

from dlsys_bench.report.history import history_table
from dlsys_bench.report.html.charts import Axes, Line, chart, legend
from dlsys_bench.report.html.page import Graphic, Section, Sheet
from dlsys_bench.verdicts.history import FigureSeries

BETWEEN, FIGURES = "median between changes", "each commit"


def history_sections(histories: Sequence[FigureSeries], alpha: float) -> list[Section]:
    """Return a table of the series, and a chart of each."""
    text = (
        f"A series without a change is listed as changed with a probability of at most {alpha:g}, "
        "over all series, for one analysis of its history.",
    )
    styles = (FIGURES, BETWEEN)
    panels = [
        Graphic(one.name, chart(one.name, _lines(one), _axes(one), styles)) for one in histories
    ]
    table = Sheet.of(history_table(histories, alpha))
    return [Section("History", text, [table], legend(styles), panels)]


def _axes(history: FigureSeries) -> Axes:
    return Axes("commit", history.unit or "figure")


def _lines(history: FigureSeries) -> list[Line]:
    numbers = [float(at) for at in range(1, len(history.moments) + 1)]
    medians = [one.value for one in history.moments]
    lows = [min(one.values) for one in history.moments]
    highs = [max(one.values) for one in history.moments]
    level = history.changes[0].before if history.changes else sorted(medians)[len(medians) // 2]
    levels = []
    after = {one.position: one.after for one in history.changes}
    for at in range(len(medians)):
        level = after.get(at, level)
        levels.append(level)
    return [Line(FIGURES, numbers, medians, lows, highs), Line(BETWEEN, numbers, levels)]
