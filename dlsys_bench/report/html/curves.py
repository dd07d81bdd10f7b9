"""The learning curves of a page: a small chart for each arm, with a line for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from dlsys_bench.report.html.charts import SERIES, Axes, Line, chart, legend
from dlsys_bench.report.html.page import Graphic, Section
from dlsys_bench.report.limits import late_limits
from dlsys_bench.report.plots.groups import Group

FIGURES = {
    "test_accuracy": "test accuracy",
    "validation_accuracy": "validation accuracy",
    "running_loss": "training loss, running",
}
"""The figures of an epoch that are drawn, with the labels of their axes."""


Lines = Mapping[str, Sequence[tuple[Group, Line]]]
"""The lines of the groups of runs by figure."""


def curve_sections(title: str, grouped: Sequence[Group]) -> list[Section]:
    """Return the curves of all arms, on one scale for each figure, and the arms of each engine in
    one chart; none if there are no trainings of several epochs."""
    lines = {
        figure: [(group, line) for group in grouped if (line := _line(figure, group)) is not None]
        for figure in FIGURES
    }
    if lines["test_accuracy"]:
        lines["validation_accuracy"] = []
    found = (_arms_section(title, lines), _curve_section(title, lines))
    return [section for section in found if section is not None]


def _arms_section(title: str, lines: Lines) -> Section | None:
    """Return the mean curves of several arms in one chart for each engine and figure."""
    arms = list(dict.fromkeys(group.arm for pairs in lines.values() for group, _ in pairs))
    if not 1 < len(arms) <= SERIES:
        return None
    panels = []
    for figure, pairs in lines.items():
        for engine in dict.fromkeys(line.name for _, line in pairs):
            caption = f"{engine}: {FIGURES[figure]}"
            means = [
                Line(group.arm, line.x, line.y) for group, line in pairs if line.name == engine
            ]
            axes = Axes("epoch", FIGURES[figure], limits=_limits(means), whole=True)
            panels.append(Graphic(caption, chart(caption, means, axes, arms)))
    text = (
        "Lines are the mean of the seeds of each arm. Each chart has a scale of its late values.",
    )
    return Section(f"Arms of {title}", text, legend=legend(arms), panels=panels)


def _curve_section(title: str, lines: Lines) -> Section | None:
    styles = list(dict.fromkeys(line.name for pairs in lines.values() for _, line in pairs))
    panels = []
    for figure, pairs in lines.items():
        limits = _limits([line for _, line in pairs])
        for arm in dict.fromkeys(group.arm for group, _ in pairs):
            caption = f"{arm or title}: {FIGURES[figure]}"
            own = [line for group, line in pairs if group.arm == arm]
            axes = Axes("epoch", FIGURES[figure], limits=limits, whole=True)
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
    if len(columns) < 2:
        return None  # The table shows the runs of one epoch.
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
    """Return the range of the values that are not early in a training, with a margin."""
    limits = late_limits(values for line in lines for values in (line.y, line.low, line.high))
    if limits is None:
        return None
    margin = 0.05 * (limits[1] - limits[0]) or 0.05
    return limits[0] - margin, limits[1] + margin
