"""The sections about comparisons: differences of figures, and ratios of durations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dlsys_bench.report.html.page import Section, Sheet
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import COMPARISON_COLUMNS
from dlsys_bench.timing.comparison import Change
from dlsys_bench.verdicts.comparison import Comparison, Relation

DIFFERENCE, SPEEDUP = "difference", "speedup"


def comparison_sections(comparisons: Sequence[Comparison], margin: float) -> list[Section]:
    """Return a section with a table for each metric, and one with what is left out."""
    by_metric = defaultdict(list)
    for one in comparisons:
        if one.relation is not Relation.LEFT_OUT:
            by_metric[one.metric].append(one)
    text = (
        f"The line is the 95% interval of B minus A; the dashed lines are no difference and the "
        f"margin of ±{margin:g}. SAME lies inside the margin; DIFFERS is significant after Holm's "
        "correction over the table.",
    )
    sheets = [_comparison_sheet(metric, group, margin) for metric, group in by_metric.items()]
    found = [Section("Differences", text, sheets)]
    left = [one for one in comparisons if one.relation is Relation.LEFT_OUT]
    if left:
        rows = [(one.key.path, one.metric, one.reason) for one in left]
        found.append(
            Section("Left out", sheets=[Sheet("Left out", ("arm", "metric", "reason"), rows)])
        )
    return found


def _comparison_sheet(metric: str, comparisons: Sequence[Comparison], margin: float) -> Sheet:
    strips = [_strip_of_difference(one) for one in comparisons]
    scale = scale_of(strips, (0.0, -margin, margin))
    columns = {name: cell for name, cell in COMPARISON_COLUMNS.items() if name != "metric"}
    rows = []
    for one, strip in zip(comparisons, strips, strict=True):
        cells = [cell(one) for cell in columns.values()]
        drawn = draw(strip, scale, (-margin, 0.0, margin))
        rows.append((*cells[:-2], drawn, *cells[-2:]))
    heads = [*columns]
    return Sheet(metric, (*heads[:-2], DIFFERENCE, *heads[-2:]), rows, axis(scale), DIFFERENCE)


def _strip_of_difference(one: Comparison) -> Strip:
    gap = one.difference
    if gap is None:
        return Strip(f"{one.key.name}: no difference is known")
    label = f"{one.key.name}: {gap.mean:+.4g}, interval {gap.low:.4g} to {gap.high:.4g}"
    return Strip(label, (("B minus A", gap.mean),), (gap.low, gap.high))


def benchmark_sections(
    changes: Sequence[Change], table: Table, margin: float, remarks: Sequence[str]
) -> list[Section]:
    """Return the section about a comparison of benchmarks; `table` has a row for each change."""
    strips = [
        Strip(
            f"{one.name}: {one.ratio.median:.3g}, interval {one.ratio.low:.3g} to "
            f"{one.ratio.high:.3g}",
            (("speedup of B", one.ratio.median),),
            (one.ratio.low, one.ratio.high),
        )
        for one in changes
    ]
    guides = (1 / (1 + margin), 1.0, 1 + margin)
    scale = scale_of(strips, guides)
    rows = [
        (*row[:-1], draw(strip, scale, guides), row[-1])
        for row, strip in zip(table.rows, strips, strict=True)
    ]
    columns = (*table.columns[:-1], SPEEDUP, table.columns[-1])
    text = (
        "The line is the 95% interval of the speedup of B; the dashed lines are equal speed and "
        f"the margin of {margin:.0%}.",
        *remarks,
    )
    return [
        Section("Speedups", text, [Sheet(table.title, columns, rows, axis(scale), SPEEDUP)]),
    ]
