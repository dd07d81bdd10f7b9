"""A table of text, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from dlsys_bench.report.layout import fit, without_empty_columns
from dlsys_bench.text import one_line

LONGEST = 20_000
"""The number of characters of the longest cell."""

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], str]]
"""The columns of a table: from heads to functions that return the text of a cell."""

COLOURS = {
    **dict.fromkeys(("PASS", "SAME", "FASTER"), "green"),
    **dict.fromkeys(("FAIL", "DIFFERS", "SLOWER", "CHANGED"), "bold red"),
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

    def lines(self, width: int) -> list[str]:
        """Return the table as lines of plain text, without its title."""
        rows = [tuple(map(_cell, row)) for row in self.rows]
        return fit(tuple(map(_cell, self.columns)), rows, width)

    @property
    def narrowest(self) -> int:
        """The columns that `rich` needs if prose is wrapped at spaces, and figures are not."""
        columns, rows = without_empty_columns(self.columns, self.rows)
        widths = [
            max(_unbroken(cell, head.startswith(">")) for cell in (head.lstrip(">"), *cells))
            for head, *cells in zip(columns, *rows, strict=True)
        ]
        return sum(width + 3 for width in widths) + 1  # A border and two spaces each.

    def rich(self) -> RichTable:
        """Return the table for a terminal, without its empty columns. Figures are not wrapped."""
        title = Text(_cell(self.title))
        table = RichTable(title=title, title_justify="left", title_style="bold")
        columns, rows = without_empty_columns(self.columns, self.rows)
        for column in columns:
            number = column.startswith(">")
            justify: Literal["left", "right"] = "right" if number else "left"
            head = Text(_cell(column.lstrip(">")))
            table.add_column(head, justify=justify, overflow="fold", no_wrap=number)
        for row in rows:
            table.add_row(*(Text(_cell(cell), style=COLOURS.get(cell, "")) for cell in row))
        return table


def _cell(text: str) -> str:
    return one_line(text, LONGEST)


def _unbroken(cell: str, number: bool) -> int:
    """The length of the longest part of a cell that is not wrapped."""
    parts = [cell] if number else cell.split()
    return max(map(cell_len, parts), default=0)


def coloured(line: str) -> Text:
    """Return a line in which the verdicts have their colours."""
    text = Text(line)
    for word, style in COLOURS.items():
        text.highlight_regex(rf"(?<!\S){word}(?!\S)", style)
    return text
