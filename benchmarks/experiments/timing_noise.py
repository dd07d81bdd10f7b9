"""Measure how often a busy machine produces a false FASTER or SLOWER.

    python benchmarks/experiments/timing_noise.py 60    # appends to reports/speed/noise.jsonl

An engine is compared with itself under a load that starts and stops at random, so that every FASTER
or SLOWER is false.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dlsys_bench.engines.registry import create
from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.timing.comparison import SESSION_SPREAD
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, workloads
from dlsys_bench.timing.load import BUSY, BackgroundLoad
from dlsys_bench.timing.ratio import Speed, interleave, paired_ratio
from dlsys_bench.timing.sessions import session_ratio

REPORTS = Path(__file__).parents[2] / "reports" / "speed"
RUNS = REPORTS / "noise.jsonl"
ROUNDS = 13
IN_TURN, SEPARATELY = "in turn", "one after the other"
LOADS = {"quiet": 0, "one core": 1, "every core": 2}
"""The number of busy cores of each load."""


def burn(seed: int) -> None:
    """Multiply matrices in bursts of 0.1 to 2 seconds, with pauses of the same length."""
    draw, a = random.Random(seed), np.ones((512, 512), "float32")
    while True:
        until = time.perf_counter() + draw.uniform(0.1, 2.0)
        while time.perf_counter() < until:
            a @ a
        time.sleep(draw.uniform(0.1, 2.0))


def epochs() -> dict[str, Any]:
    """Two identical trainings of the numpy engine, to be advanced epoch by epoch."""
    work = workloads()[0]._replace(steps=5)
    return {side: EpochBenchmark(create("numpy"), work, work.samples(), 10_000) for side in "ab"}


@contextmanager
def load_of(cores: int, seed: int) -> Iterator[None]:
    """Keep a number of cores busy with processes in bursts."""
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=burn, args=(seed + number,), daemon=True) for number in range(cores)
    ]
    for process in processes:
        process.start()
    if processes:
        time.sleep(1.0)
    try:
        yield
    finally:
        for process in processes:
            process.kill()


def compare(sides: dict[str, Any], load: str, seed: int) -> list[dict[str, Any]]:
    """Compare the two sides under a load: in turn, and one after the other."""
    with load_of(LOADS[load], seed):
        in_turn = interleave(sides, ROUNDS)
        with BackgroundLoad() as background:
            one, other = (interleave({side: sides[side]}, ROUNDS)[side] for side in "ab")
    # `bench compare` treats a comparison under background load as ambiguous as well.
    busy = (background.fraction or 0.0) > BUSY
    found = (
        (IN_TURN, paired_ratio(in_turn["a"], in_turn["b"]), False, in_turn),
        (SEPARATELY, session_ratio([one], [other], SESSION_SPREAD), busy, [one, other]),
    )
    return [
        {
            "load": load,
            "how": how,
            "low": ratio.low,
            "middle": ratio.median,
            "high": ratio.high,
            "said": str(Speed.AMBIGUOUS if ambiguous else ratio.speed),
            "others": background.fraction,
            "seconds": seconds,
            "provenance": provenance(),
        }
        for how, ratio, ambiguous, seconds in found
    ]


def main(trials: int) -> None:
    """Store the comparisons of a number of trials under every load."""
    sides = epochs()
    interleave(sides, 3)
    for trial in range(trials):
        for load in LOADS:
            with RUNS.open("a") as file:
                file.writelines(
                    json.dumps(line) + "\n" for line in compare(sides, load, 97 * trial)
                )


def stored() -> list[dict[str, Any]]:
    """The stored comparisons."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()]


def table() -> Table:
    """The false verdicts under every load."""
    heads = (
        "load",
        "measured",
        ">comparisons",
        ">AMBIGUOUS",
        ">false FASTER or SLOWER",
        ">median width of the interval",
    )
    rows = []
    for load in LOADS:
        for how in (IN_TURN, SEPARATELY):
            lines = [line for line in stored() if (line["load"], line["how"]) == (load, how)]
            ambiguous = Counter(line["said"] for line in lines)["AMBIGUOUS"]
            widths = sorted(line["high"] - line["low"] for line in lines)
            counts = (len(lines), ambiguous, len(lines) - ambiguous)
            rows.append((load, how, *map(str, counts), f"{widths[len(widths) // 2]:.2f}"))
    return Table("False verdicts by load", heads, rows)


def misled() -> str:
    """The number of verdicts that would be false if the background load were ignored."""
    lines = [line for line in stored() if line["how"] == SEPARATELY and LOADS[line["load"]]]
    false = sum(line["low"] > 1 or line["high"] < 1 for line in lines)
    return f"{false} of the {len(lines)} under load"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(int(sys.argv[1]))
    print(table().markdown())
