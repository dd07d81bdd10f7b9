"""Tables as plain text, in lines that fit a page.

A table has the first layout that fits: one line per row; the labels of each row on a line of their
own, above its figures; with several rows, the last column below each row if it is prose, what all
rows have in common once above them, or the figures of each row in several lines; otherwise one line
per cell. Only prose is wrapped. A name or a figure that is longer than a line keeps its line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import chain

NONE = "-"

GAP, INDENT = "  ", "  "

Cells = Sequence[str]
RowLines = Sequence[str]
"""The lines of the heads, or of a row."""

TableLayout = Callable[[Cells, Sequence[Cells], int], Sequence[RowLines]]
"""Returns the blocks of the heads and of each row, given these and the width; none for a table that
has no such layout."""


def fit(columns: Cells, rows: Sequence[Cells], width: int) -> list[str]:
    """Return the lines of a table, in at most `width` columns where names and figures allow.

    A column whose head starts with ">" is aligned to the right. The columns before the first of
    these are the labels of a row. Columns without any content are omitted.
    """
    columns, rows = without_empty_columns(columns, rows)
    layouts: tuple[TableLayout, ...] = (_one_line_per_row, _labels_above)
    common: list[str] = []
    blocks = _first_that_fits(layouts, columns, rows, width)
    if not blocks and len(rows) > 1:
        layouts = (*layouts, _prose_below)
        blocks = _first_that_fits(layouts, columns, rows, width)
    if not blocks and len(rows) > 1:
        layouts = (*layouts, _figures_in_lines)
        common, columns, rows = _without_common_cells(columns, rows)
        blocks = _first_that_fits(layouts, columns, rows, width)
    stated = wrapped("every row: ", ", ".join(common), width) if common else []
    if blocks:
        return [*stated, *chain.from_iterable(blocks)]
    return [*stated, *_one_line_per_cell(columns, rows, width)]


def without_empty_columns(columns: Cells, rows: Sequence[Cells]) -> tuple[Cells, list[Cells]]:
    """Return the table without the columns that have no content in any row."""
    kept = [
        at
        for at in range(len(columns))
        if not rows or any(row[at] not in ("", NONE) for row in rows)
    ]
    return _columns_at(kept, columns, rows)


def wrapped(head: str, text: str, width: int) -> list[str]:
    """Return a text behind its head, wrapped at spaces; further lines are below the text."""
    lines = textwrap.wrap(
        text,
        max(width, len(head) + 20),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [head.rstrip()]


def _first_that_fits(
    layouts: Sequence[TableLayout], columns: Cells, rows: Sequence[Cells], width: int
) -> Sequence[RowLines]:
    """Return the blocks of the first layout in which no line is too long; none if there is none."""
    for layout in layouts:
        blocks = layout(columns, rows, width)
        if blocks and max(map(len, chain.from_iterable(blocks)), default=0) <= width:
            return blocks
    return []


def _columns_at(
    places: Sequence[int], columns: Cells, rows: Sequence[Cells]
) -> tuple[Cells, list[Cells]]:
    return [columns[at] for at in places], [[row[at] for at in places] for row in rows]


def _without_common_cells(
    columns: Cells, rows: Sequence[Cells]
) -> tuple[list[str], Cells, list[Cells]]:
    """Return the cells that all rows have in common, with their heads, and the other columns.

    The first column names the rows, and is kept.
    """
    common = [at for at in range(1, len(columns)) if len({row[at] for row in rows}) == 1]
    stated = [f"{columns[at].lstrip('>')} {rows[0][at]}".strip() for at in common]
    kept = [at for at in range(len(columns)) if at not in common]
    return stated, *_columns_at(kept, columns, rows)


def _aligned(columns: Cells, rows: Sequence[Cells]) -> list[str]:
    """Return the heads and the rows, with aligned columns."""
    right = [head.startswith(">") for head in columns]
    cells = [[head.lstrip(">") for head in columns], *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    return [
        GAP.join(
            cell.rjust(size) if to_right else cell.ljust(size)
            for cell, size, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _one_line_per_row(columns: Cells, rows: Sequence[Cells], width: int) -> list[RowLines]:
    return [[line] for line in _aligned(columns, rows)]


def _labels_above(columns: Cells, rows: Sequence[Cells], width: int) -> list[RowLines]:
    """Return the figures of each row on a line below its labels."""
    figures = range(_labels(columns), len(columns))
    return _below_labels([figures], columns, rows, width)


def _figures_in_lines(columns: Cells, rows: Sequence[Cells], width: int) -> list[RowLines]:
    """Return the figures of each row in as many lines as they need, below its labels."""
    parts: list[list[int]] = [[]]
    for at in range(_labels(columns), len(columns)):
        lines = _aligned(*_columns_at([*parts[-1], at], columns, rows))
        if parts[-1] and max(map(len, lines)) > width - len(INDENT):
            parts.append([])
        parts[-1].append(at)
    return _below_labels(parts, columns, rows, width)


def _labels(columns: Cells) -> int:
    """Return the number of columns before the first figure; 0 if there is no figure."""
    return next((at for at, head in enumerate(columns) if head.startswith(">")), 0)


def _below_labels(
    parts: Sequence[Sequence[int]], columns: Cells, rows: Sequence[Cells], width: int
) -> list[RowLines]:
    """Return the columns of each part on a line below the labels; none without labels."""
    count = _labels(columns)
    if not count:
        return []
    lines = [_aligned(*_columns_at(part, columns, rows)) for part in parts]
    blocks: list[RowLines] = []
    for cells, *below in zip([columns, *rows], *lines, strict=True):
        found = [cell for cell in cells[:count] if cell not in ("", NONE)]
        joined = GAP.join(found)
        labels = [joined] if len(joined) <= width else found
        blocks.append([*labels, *(f"{INDENT}{line}".rstrip() for line in below)])
    return blocks


def _prose_below(columns: Cells, rows: Sequence[Cells], width: int) -> list[RowLines]:
    """Return the last column below each row; none if it has figures, or no other column."""
    if len(columns) == 1 or columns[-1].startswith(">"):
        return []
    layouts: tuple[TableLayout, ...] = (_one_line_per_row, _labels_above)
    others = _first_that_fits(layouts, columns[:-1], [row[:-1] for row in rows], width)
    texts = [columns[-1], *(row[-1] for row in rows)]
    return [
        [*block, *(wrapped(INDENT * 2, text, width) if text not in ("", NONE) else ())]
        for block, text in zip(others, texts, strict=bool(others))
    ]


def _one_line_per_cell(columns: Cells, rows: Sequence[Cells], width: int) -> list[str]:
    """Return the cells that have content, each below the one before, and a blank line after each
    row but the last."""
    heads = [head.lstrip(">") for head in columns]
    size = max(map(len, heads), default=0)
    lines: list[str] = []
    for row in rows:
        if lines:
            lines.append("")
        for head, cell in zip(heads, row, strict=True):
            if cell not in ("", NONE):
                lines += wrapped(f"{head.ljust(size)}{GAP}", cell, width)
    return lines
