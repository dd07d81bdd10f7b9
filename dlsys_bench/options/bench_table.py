"""The options of the benchmarks alone, and the whole table of options."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.options.kinds import File, Flag, Many, Number
from dlsys_bench.options.option import Option
from dlsys_bench.options.stored_table import STORED
from dlsys_bench.options.table import BENCH, COUNT, DTYPE, GENERAL, NAME

POINTS = "File that keeps each point as it is measured; points already in it are skipped."
SEEDS = "Runs of each engine; with fewer than 6 the median has no 95% interval."
MARGIN_OF_SPEED = "Equivalence margin: relative changes in time that are smaller count as none."
SESSION_SPREAD = (
    "Standard deviation between sessions of the same code that is assumed if A and B are single "
    "sessions, relative to the time."
)
ACROSS_MACHINES = (
    "Compare although the machines, versions or settings of A and B differ, instead of AMBIGUOUS."
)

BENCHMARKS: tuple[Option, ...] = (
    Option(
        "arm", BENCH, "Arm; repeatable. Default: the first of the study.", Many(NAME, "arms"), ()
    ),
    Option(
        "dtype",
        BENCH[:1],
        "Precision; repeatable. Default: float32, or the only one that the engine has.",
        DTYPE,
        (),
    ),
    Option(
        "batch-size",
        BENCH[:1],
        "Batch size; repeatable.",
        Many(COUNT, "batch_sizes"),
        (8, 32, 128, 512, 2048),
    ),
    Option(
        "threads",
        BENCH[:1],
        "Threads; repeatable. Default: the engine's own number.",
        Many(COUNT, "threads"),
        (),
    ),
    Option(
        "replicas",
        BENCH[:1],
        "Networks trained as one; repeatable.",
        Many(COUNT, "replicas"),
        (1,),
    ),
    Option("seconds", BENCH[:1], "Seconds for each point.", Number(minimum=0.1), 2.0),
    Option("output", BENCH[:1], POINTS, File(), Path("reports/speed.jsonl")),
    Option("seeds", BENCH[1:], SEEDS, COUNT, 6),
    Option("output", BENCH[1:], POINTS, File(), Path("reports/time-to-accuracy.jsonl")),
    Option("margin", ("bench compare",), MARGIN_OF_SPEED, Number(above=0), 0.1),
    Option("session-spread", ("bench compare",), SESSION_SPREAD, Number(minimum=0), 0.02),
    Option("across-machines", ("bench compare",), ACROSS_MACHINES, Flag(), False),
)

OPTIONS = (*GENERAL, *BENCHMARKS, *STORED)
