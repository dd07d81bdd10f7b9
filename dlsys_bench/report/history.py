"""Histories as a table, as CSV, and as the JSON that benchmark-tracking actions read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from dlsys_bench.report.table import Columns, Table
from dlsys_bench.strict_json import dumps
from dlsys_bench.text import one_line
from dlsys_bench.verdicts.history import FigureSeries


def changes_of(history: FigureSeries) -> str:
    """Return the changes of a series in words."""
    found = [
        f"at {history.moments[one.position].label}: {one.before:.5g} to {one.after:.5g} "
        f"(p-value {one.p_value:.1e})"
        for one in history.changes
    ]
    return "; ".join(found) or "none"


HISTORY_COLUMNS: Columns[FigureSeries] = {
    "series": lambda one: one.name,
    ">commits": lambda one: str(len(one.moments)),
    ">first": lambda one: f"{one.moments[0].value:.5g}",
    ">last": lambda one: f"{one.moments[-1].value:.5g}",
    "last commit": lambda one: one.moments[-1].label,
    "verdict": lambda one: "CHANGED" if one.changes else "SAME",
    "changes": changes_of,
}


def history_table(histories: Sequence[FigureSeries], alpha: float) -> Table:
    """Return a table with a row for each series."""
    title = f"History: false-alarm rate {alpha:g} over {len(histories)} series"
    return Table.of(title, HISTORY_COLUMNS, histories)


def history_csv(histories: Sequence[FigureSeries]) -> str:
    """Return a line for each figure. Texts that a spreadsheet would compute begin with '."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("series", "unit", "commit", "time", "value", "change"))
    for history in histories:
        places = {one.position for one in history.changes}
        for at, moment in enumerate(history.moments):
            changed = "yes" if at in places else ""
            for value in moment.values:
                row = (history.name, history.unit, moment.commit, moment.time)
                writer.writerow((*map(_inert, row), repr(value), changed))
    return text.getvalue()


def history_json(histories: Sequence[FigureSeries]) -> str:
    """Return the newest figure of each series as the JSON of github-action-benchmark's custom
    tools: a list of objects with name, unit, value and range."""
    found = [
        {
            "name": one_line(one.name),
            "unit": one.unit or "1",
            "value": one.moments[-1].value,
            "range": f"{min(one.moments[-1].values):.6g} to {max(one.moments[-1].values):.6g}",
            "extra": f"commit {one.moments[-1].commit}; changes: {changes_of(one)}",
        }
        for one in histories
    ]
    return dumps(found, indent=1) + "\n"


def _inert(text: str) -> str:
    return f"'{one_line(text)}" if text[:1] in tuple("=+-@") else one_line(text)
