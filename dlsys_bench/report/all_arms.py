"""The table of engines that are compared over all arms."""

from __future__ import annotations

from collections.abc import Sequence

from dlsys_bench.report.table import Columns, Table
from dlsys_bench.verdicts.all_arms import ArmsComparison

COLUMNS: Columns[ArmsComparison] = {
    "A": lambda one: one.engines[0],
    "B": lambda one: one.engines[1],
    ">arms": lambda one: str(one.arms),
    ">runs": lambda one: str(one.runs),
    ">shift (std)": lambda one: f"{one.shift:+.2f}",
    ">p-value": lambda one: f"{one.p:.2g}",
    ">alpha": lambda one: f"{one.alpha:.2g}",
    "verdict": lambda one: one.verdict,
}


def arms_table(
    comparisons: Sequence[ArmsComparison], title: str = "Engines over all arms"
) -> Table:
    """Return a table with one row per two engines: the common shift from A to B over all arms."""
    return Table.of(title, COLUMNS, comparisons)
