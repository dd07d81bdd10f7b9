"""A table of text, for a terminal or for Markdown."""

from __future__ import annotations

import re
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
        heads = [inert(column.lstrip(">")) for column in self.columns]
        rule = ["--:" if column.startswith(">") else "---" for column in self.columns]
        cells = [[inert(cell) for cell in row] for row in self.rows]
        lines = ["| " + " | ".join(line) + " |\n" for line in [heads, rule, *cells]]
        return f"### {inert(self.title)}\n\n" + "".join(lines)

    def lines(self, width: int) -> list[str]:
        """Return the table as lines of plain text, without its title."""
        return fit(*self._shown, width)

    @property
    def narrowest(self) -> int:
        """The columns that `rich` needs if prose is wrapped at spaces, and figures are not."""
        columns, rows = self._shown
        widths = _narrowest_columns(columns, rows)
        return sum(width + 3 for width in widths) + 1  # A border and two spaces each.

    def rich(self, width: int) -> RichTable:
        """Return the table for a terminal of a width, without its title and its empty columns.

        Prose is wrapped at spaces, and figures are not wrapped.
        """
        table = RichTable()
        columns, rows = self._shown
        for column, size in zip(columns, _column_widths(columns, rows, width), strict=True):
            number = column.startswith(">")
            justify: Literal["left", "right"] = "right" if number else "left"
            head = Text(column.lstrip(">"))
            table.add_column(head, justify=justify, overflow="fold", no_wrap=number, width=size)
        for row in rows:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
        return table

    @property
    def _shown(self) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """The heads and the rows as they are printed, without the empty columns."""
        rows = [tuple(map(_cell, row)) for row in self.rows]
        return without_empty_columns(tuple(map(_head, self.columns)), rows)


def _cell(text: str) -> str:
    return one_line(text, LONGEST)


MARKUP = re.compile(r"[\\|]|<(?=[A-Za-z/!?])|(?<=\])[(\[:]|&(?=#?\w+;)")
"""What begins a cell, an escape, HTML, a link, an image or an entity in Markdown."""


class Markdown(str):
    """A cell that is Markdown already, such as a link: it is not escaped."""

    __slots__ = ()


def inert(text: str) -> str:
    """Return a text as one line of Markdown without markup that loads, links or runs anything."""
    if isinstance(text, Markdown):
        return text
    return MARKUP.sub(r"\\\g<0>", _cell(text))


def _head(column: str) -> str:
    """Return a head as one line behind its mark, which would hide the beginning of a command."""
    return ">" * column.startswith(">") + _cell(column.lstrip(">"))


def _narrowest_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column if prose is wrapped at spaces, and figures are not."""
    return [
        max(_unbroken(cell, head.startswith(">")) for cell in (head.lstrip(">"), *cells))
        for head, *cells in zip(columns, *rows, strict=True)
    ]


def _column_widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of columns, in which the narrowest grow until the table has its width.

    Rich itself splits words to make room for the prose of another column.
    """
    sizes = _narrowest_columns(columns, rows)
    longest = [
        max(map(cell_len, (head.lstrip(">"), *cells)))
        for head, *cells in zip(columns, *rows, strict=True)
    ]
    for _ in range(width - sum(sizes) - 3 * len(columns) - 1):
        growing = [at for at, size in enumerate(sizes) if size < longest[at]]
        if not growing:
            break
        sizes[min(growing, key=lambda at: sizes[at])] += 1
    return sizes


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
