"""A table of text, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from rich.table import Table as RichTable
from rich.text import Text

from dlsys_bench.text import one_line

NONE = "-"

LONGEST = 20_000
"""The number of characters of the longest cell."""

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], str]]
"""The columns of a table: from heads to functions that return the text of a cell."""

COLOURS = {
    **dict.fromkeys(("PASS", "SAME", "FASTER"), "green"),
    **dict.fromkeys(("FAIL", "DIFFERS", "SLOWER"), "bold red"),
    **dict.fromkeys(("INCONCLUSIVE", "UNDECIDED", "AMBIGUOUS"), "yellow"),
    "UNJUDGED": "dim",
}
"""The colours of verdicts on a terminal."""


class Table(NamedTuple):
    """A title, the column heads and the rows, all text.

    A column whose head starts with ">" is aligned to the right. Every text is shown as one line.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, title: str, columns: Columns[T], items: Iterable[T]) -> Table:
        """Return a table with one row per item."""
        rows = [tuple(cell(item) for cell in columns.values()) for item in items]
        return cls(title, tuple(columns), rows)

    def markdown(self) -> str:
        """Return the table in Markdown, below its title."""
        heads = [_cell(column.lstrip(">")) for column in self.columns]
        rule = ["--:" if column.startswith(">") else "---" for column in self.columns]
        cells = [[_cell(cell).replace("|", "\\|") for cell in row] for row in self.rows]
        lines = ["| " + " | ".join(line) + " |\n" for line in [heads, rule, *cells]]
        return f"### {_cell(self.title)}\n\n" + "".join(lines)

    def rich(self) -> RichTable:
        """Return the table for a terminal."""
        title = Text(_cell(self.title))
        table = RichTable(title=title, title_justify="left", title_style="bold")
        for column in self.columns:
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            table.add_column(Text(_cell(column.lstrip(">"))), justify=justify, overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(_cell(cell), style=COLOURS.get(cell, "")) for cell in row))
        return table


def _cell(text: str) -> str:
    return one_line(text, LONGEST)
