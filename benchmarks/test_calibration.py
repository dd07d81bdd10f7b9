"""The speed-up of a calibration by a second worker: the same number of seeds with one worker and
with two, in alternation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.registry import create
from dlsys_bench.runs.calibration import calibrate, jobs_of_study, start_workers
from dlsys_bench.runs.store import Store
from dlsys_bench.studies.registry import find

ROUNDS = 5
SEEDS = 8
GOAL = 1.6


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, Any]]:
    """A pool of one worker, and one of two. The pool that waits costs nothing."""
    with start_workers(None, 1) as one, start_workers(None, 2) as two:
        yield {1: one, 2: two}


def test_two_workers_against_one(benchmark: Any, pools: dict[int, Any], tmp_path: Path) -> None:
    """Interleaved: each round trains the same number of new seeds by one worker, then by two."""
    work = [(find("regularization/fashion/ffn")[0], create("numpy"), load("digits"))]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    first = 50_000
    with Store(tmp_path / "runs.db") as store:

        def both() -> None:
            nonlocal first
            for count, workers in pools.items():
                jobs = jobs_of_study(work, "quick", range(first, first + SEEDS))
                first += SEEDS
                started = time.perf_counter()
                found = calibrate(jobs, store, workers)
                seconds[count].append(time.perf_counter() - started)
                assert found.trained == SEEDS

        # The first round also loads the data in each worker.
        benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
        assert len(store.keys()) == 2 * (ROUNDS + 1) * SEEDS
    ratios = np.divide(seconds[1][1:], seconds[2][1:])
    low, middle, high = np.quantile(ratios, [0.0, 0.5, 1.0])
    benchmark.extra_info |= {
        "one worker, seconds": float(np.median(seconds[1][1:])),
        "two workers, seconds": float(np.median(seconds[2][1:])),
        "ratio": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
        "goal": GOAL,
    }
