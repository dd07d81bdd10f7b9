"""Tables that fit a page: the layouts of text, and the choice among them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dlsys_bench.report import display
from dlsys_bench.report.layout import fit
from dlsys_bench.report.table import Table

COLUMNS = ("arm", "engine", ">seeds", ">measured", "verdict", "remark")
ROWS = [
    ("study/standard", "numpy", "2", "0.9312 ± 0.0041", "PASS", "-"),
    ("study/dropout", "numpy", "12", "0.8701 ± 0.0102", "FAIL", ""),
]


def test_a_table_has_one_line_per_row_without_empty_columns() -> None:
    assert fit(COLUMNS, ROWS, 60) == [
        "arm             engine  seeds         measured  verdict",
        "study/standard  numpy       2  0.9312 ± 0.0041  PASS",
        "study/dropout   numpy      12  0.8701 ± 0.0102  FAIL",
    ]


def test_labels_are_above_the_figures_where_a_row_does_not_fit() -> None:
    assert fit(COLUMNS, ROWS, 40) == [
        "arm  engine",
        "  seeds         measured  verdict",
        "study/standard  numpy",
        "      2  0.9312 ± 0.0041  PASS",
        "study/dropout  numpy",
        "     12  0.8701 ± 0.0102  FAIL",
    ]


def test_each_cell_has_a_line_where_the_figures_do_not_fit() -> None:
    assert fit(COLUMNS, ROWS[:1], 30) == [
        "arm       study/standard",
        "engine    numpy",
        "seeds     2",
        "measured  0.9312 ± 0.0041",
        "verdict   PASS",
    ]
    row = ("a" * 50, "3", "about 12 more of each side would decide it")
    assert fit(("name", ">n", "reason"), [row, row], 30)[:4] == [
        f"name    {'a' * 50}",
        "n       3",
        "reason  about 12 more of each",
        "        side would decide it",
    ]


@pytest.mark.parametrize("width", range(20, 90, 7))
def test_no_figure_is_split_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(
        display, "Console", lambda **more: Console(file=stream, width=width, force_terminal=True)
    )
    display.show(Table("A title", COLUMNS, ROWS))
    printed = stream.getvalue()
    for row in ROWS:
        assert row[0] in printed
        assert row[3] in printed
    assert "\x1b[1;31mFAIL" in printed
