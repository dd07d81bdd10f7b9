"""The options of the commands that write pages."""

from __future__ import annotations

from dlsys_bench.options.kinds import File, Many
from dlsys_bench.options.option import Option
from dlsys_bench.options.table import BENCH

PAGES = ("report", "gate", "conform", "compare", "bench compare", *BENCH)
PAGE = "Write a page to this file as HTML. It contains all that it shows and loads nothing."
INCLUDE = (
    "File to show on the page too: of `conform --output`, `bench sweep` or `bench "
    "time-to-accuracy`, a table of mutants, or a PNG; repeatable."
)

PAGE_OPTIONS: tuple[Option, ...] = (
    Option("html", PAGES, PAGE, File()),
    Option("include", ("report",), INCLUDE, Many(File(exists=True), "included"), ()),
)
