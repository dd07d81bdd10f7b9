"""The options of the commands about stored runs, and of those that write pages."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.options.kinds import File, Flag, Folder, Many
from dlsys_bench.options.option import Option
from dlsys_bench.options.table import BENCH, NAME, POSITIVE, PROBABILITY, RUNS, SCALING, SEED

STORE = ("runs list", "runs show", "runs export", "runs import", "runs release")
SELECT = ("runs list", "runs export")
METRIC = "Metric to compare; repeatable. Default: that of the study, or every metric of a callable."
MARGIN = "Equivalence margin: means closer than this are the same, in the metric's units."
ALPHA_OF_TABLE = "Family-wise error rate of DIFFERS, and error rate of each SAME."

METRIC_OF_HISTORY = "Metric of the runs. Default: that of the study, or every metric of a callable."
ALPHA_OF_HISTORY = "Probability of any false alarm, over all series."
EXPORT = "Write the newest values to this file as the JSON of github-action-benchmark."

PAGES = (
    *("report", "gate", "power", "conform", "compare", "bench compare", "history", "inspect"),
    *BENCH,
)
PAGE = "Write the result to this file as a self-contained HTML page."
INCLUDE = (
    "File to show on the page too: of `conform --output`, `bench sweep` or `bench "
    "time-to-accuracy`, pytest-benchmark, a table of mutants, or a PNG; repeatable."
)

STORED: tuple[Option, ...] = (
    Option("store", STORE, "Store.", File(), RUNS),
    Option("study", SELECT, "Only runs of this study.", NAME),
    Option("arm", SELECT, "Only runs of this arm.", NAME),
    Option("dataset", SELECT, "Only runs on this dataset.", NAME),
    Option("tier", SELECT, "Only runs of this tier.", NAME),
    Option("engine", SELECT, "Only runs of this engine.", NAME),
    Option("device", SELECT, "Only runs on this device.", NAME),
    Option("status", SELECT, "Only runs with this status.", NAME),
    Option("every", SELECT, "Every attempt, not only the last of each run.", Flag(), False),
    Option("metric", ("compare",), METRIC, Many(NAME, "metrics"), ()),
    Option("margin", ("compare",), MARGIN, POSITIVE, 0.005),
    Option("alpha", ("compare",), ALPHA_OF_TABLE, PROBABILITY, 0.05),
    Option("output", ("power",), "Write the table to this file as Markdown.", File()),
    Option("output", ("report",), "Folder for the report.", Folder(), Path("reports")),
    Option("output", ("look",), "Folder for the pictures.", Folder(), Path("reports/look")),
    Option("output", ("inspect",), "Folder for the pictures.", Folder(), Path("reports/inspect")),
    Option("seed", ("look",), "Seed that draws the samples shown.", SEED, 0),
    Option("scaling", ("inspect",), "Scaling of the pixels in training.", SCALING, "unit"),
    Option("metric", ("history",), METRIC_OF_HISTORY, NAME),
    Option("alpha", ("history",), ALPHA_OF_HISTORY, PROBABILITY, 0.01),
    Option("csv", ("history",), "Write each value to this file as CSV.", File()),
    Option("export", ("history",), EXPORT, File()),
    Option("html", PAGES, PAGE, File()),
    Option("include", ("report",), INCLUDE, Many(File(exists=True), "included"), ()),
)
