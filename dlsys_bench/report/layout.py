"""Tables as plain text, in lines that fit a page.

A table has the first layout that fits: one line per row; the labels of each row on a line of their
own, above its figures; or one line per cell. Only prose is wrapped. A name or a figure that is
longer than a line keeps its line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

NONE = "-"

GAP, INDENT = "  ", "  "

Cells = Sequence[str]


def fit(columns: Cells, rows: Sequence[Cells], width: int) -> list[str]:
    """Return the lines of a table, in at most `width` columns where names and figures allow.

    A column whose head starts with ">" is aligned to the right. The columns before the first of
    these are the labels of a row. Columns without any content are omitted.
    """
    columns, rows = without_empty_columns(columns, rows)
    lines = _one_line_per_row(columns, rows)
    if _fits(lines, width):
        return lines
    labels = next((at for at, head in enumerate(columns) if head.startswith(">")), 0)
    figures = _one_line_per_row(columns[labels:], [row[labels:] for row in rows])
    if labels and _fits(figures, width - len(INDENT)):
        return _labels_above([columns[:labels], *(row[:labels] for row in rows)], figures, width)
    return _one_line_per_cell(columns, rows, width)


def without_empty_columns(columns: Cells, rows: Sequence[Cells]) -> tuple[Cells, list[Cells]]:
    """Return the table without the columns that have no content in any row."""
    kept = [
        at
        for at in range(len(columns))
        if not rows or any(row[at] not in ("", NONE) for row in rows)
    ]
    return [columns[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _fits(lines: Sequence[str], width: int) -> bool:
    return max(map(len, lines), default=0) <= width


def _one_line_per_row(columns: Cells, rows: Sequence[Cells]) -> list[str]:
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


def _labels_above(labels: Sequence[Cells], figures: Sequence[str], width: int) -> list[str]:
    """Return each line of figures below the labels of its row."""
    lines = []
    for cells, line in zip(labels, figures, strict=True):
        found = [cell for cell in cells if cell not in ("", NONE)]
        joined = GAP.join(found)
        lines += [joined] if len(joined) <= width else found
        lines.append(f"{INDENT}{line}".rstrip())
    return lines


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
                lines += _wrapped(f"{head.ljust(size)}{GAP}", cell, width)
    return lines


def _wrapped(head: str, text: str, width: int) -> list[str]:
    """Return a cell behind its head, wrapped at spaces."""
    wrapped = textwrap.wrap(
        text,
        max(width, len(head) + 20),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped or [head.rstrip()]
