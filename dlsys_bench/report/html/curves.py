"""The learning curves of a page: a small chart for each arm, with a line for each engine."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from dlsys_bench.report.html.charts import Axes, Line, chart, legend
from dlsys_bench.report.html.page import Graphic, Section
from dlsys_bench.report.plots.groups import Group

FIGURES = {
    "test_accuracy": "test accuracy",
    "validation_accuracy": "validation accuracy",
    "running_loss": "training loss, running",
}
"""The figures of an epoch that are drawn, with the labels of their axes."""

START = 0.25
"""The part of a training whose values do not widen the axis, so that later ones are told apart."""


def curve_section(title: str, grouped: Sequence[Group]) -> Section | None:
    """Return the curves of all arms, on one scale for each figure; None if there are no epochs."""
    lines = {
        figure: [(group, line) for group in grouped if (line := _line(figure, group)) is not None]
        for figure in FIGURES
    }
    if not lines["test_accuracy"]:
        lines["test_accuracy"] = []
    else:
        lines["validation_accuracy"] = []
    styles = list(dict.fromkeys(line.name for pairs in lines.values() for _, line in pairs))
    panels = []
    for figure, pairs in lines.items():
        limits = _limits([line for _, line in pairs])
        for arm in dict.fromkeys(group.arm for group, _ in pairs):
            caption = f"{arm or title}: {FIGURES[figure]}"
            own = [line for group, line in pairs if group.arm == arm]
            axes = Axes("epoch", FIGURES[figure], limits=limits)
            panels.append(Graphic(caption, chart(caption, own, axes, styles)))
    if not panels:
        return None
    text = (
        "Lines are the mean of the seeds, and their range is shaded. All arms have one scale. It "
        "leaves out values of the first quarter of the training that lie beyond all later ones.",
    )
    return Section(f"Curves of {title}", text, legend=legend(styles), panels=panels)


def _line(figure: str, group: Group) -> Line | None:
    histories = [
        [getattr(epoch, figure) for epoch in run.history] for run in group.runs if run.history
    ]
    known = [values for values in histories if all(value is not None for value in values)]
    if not known:
        return None
    columns = list(zip(*known, strict=False))
    several = len(known) > 1
    engine = group.runs[0].key.engine
    return Line(
        group.beside or engine,
        [float(epoch) for epoch in range(1, len(columns) + 1)],
        [mean(values) for values in columns],
        [min(values) for values in columns] if several else (),
        [max(values) for values in columns] if several else (),
    )


def _limits(lines: Sequence[Line]) -> tuple[float, float] | None:
    """Return the range of the values after START of each training, with a margin."""
    late = [
        value
        for line in lines
        for values in (line.y, line.low, line.high)
        for value in values[int(START * len(values)) :]
    ]
    if not late:
        return None
    margin = 0.05 * (max(late) - min(late)) or 0.05
    return min(late) - margin, max(late) + margin
