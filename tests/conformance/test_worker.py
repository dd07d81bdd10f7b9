"""The process in which the checks of an engine run."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from dlsys_bench.conformance import process
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import Status
from dlsys_bench.process_tree import resident


def workers_of_two_checks() -> set[int]:
    """Return the processes in which two checks ran."""
    found: set[int] = set()
    with contextlib.closing(ProcessRunner("numpy")) as runner:
        for name in ("shapes/dense", "shapes/layer_norm"):
            runner.create()
            assert runner.process is not None
            found.add(runner.process.pid)
            assert runner.run(name).status is Status.PASSED
    return found


def test_a_worker_that_occupies_much_memory_runs_no_other_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(workers_of_two_checks()) == 1
    monkeypatch.setattr(process, "MOST_MEMORY", 1 << 20)
    assert len(workers_of_two_checks()) == 2


def test_the_memory_of_a_process_is_counted() -> None:
    before = resident(os.getpid())
    held = np.ones(50_000_000, np.uint8)
    assert 40_000_000 < resident(os.getpid()) - before < 100_000_000
    assert held.size
    assert resident(2**22 + 1) == 0
