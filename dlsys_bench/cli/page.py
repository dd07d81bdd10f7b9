"""The option --html: a page on the results of a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlsys_bench.cli.terminal import say
from dlsys_bench.extras import require
from dlsys_bench.provenance import provenance
from dlsys_bench.report.html.page import Page, Section, write_page
from dlsys_bench.runs.store import check_text_writable


def check_page(path: Path | None) -> None:
    """Raise an error before anything is trained if the page could not be written."""
    if path is not None:
        require("report", "jinja2")
        check_text_writable(path)


def write(
    path: Path | None, title: str, outcome: str, summary: Sequence[str], sections: Sequence[Section]
) -> None:
    """Write a page with the provenance of this process, and say where; None writes nothing."""
    if path is not None:
        page = Page(title, outcome, summary, sections, provenance())
        say(f"page: {write_page(page, path)}")
