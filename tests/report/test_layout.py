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
    reasons = ("about 12 more runs on each side would decide it", "decided")
    rows = [("a" * 50, number, reason) for number, reason in zip("34", reasons, strict=True)]
    assert fit(("name", ">n", "reason"), rows, 30)[:4] == [
        f"name    {'a' * 50}",
        "n       3",
        "reason  about 12 more runs on",
        "        each side would decide",
    ]


def test_prose_is_below_the_rows_where_it_does_not_fit_beside_them() -> None:
    rows = [("a.b", "0.93", "0.94", "inside of the interval"), ("a.c", "1", "1", "")]
    assert fit(("claim", "published", "here", "reason"), rows, 24) == [
        "claim  published  here",
        "    reason",
        "a.b    0.93       0.94",
        "    inside of the",
        "    interval",
        "a.c    1          1",
    ]


def test_what_all_rows_have_in_common_is_stated_once() -> None:
    rows = [("study/a", "digits", "20", "0.10"), ("study/b", "digits", "20", "0.12")]
    assert fit(("arm", "dataset", ">runs", ">standard deviation"), rows, 25) == [
        "every row: dataset digits, runs",
        "           20",
        "arm",
        "  standard deviation",
        "study/a",
        "                0.10",
        "study/b",
        "                0.12",
    ]


def test_figures_take_several_lines() -> None:
    rows = [("a", "0.9312", "0.0512", "12"), ("b", "0.8701", "0.0412", "9")]
    assert fit(("arm", ">accuracy", ">loss", ">seconds"), rows, 20) == [
        "arm",
        "  accuracy    loss",
        "  seconds",
        "a",
        "    0.9312  0.0512",
        "       12",
        "b",
        "    0.8701  0.0412",
        "        9",
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
