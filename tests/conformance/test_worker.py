"""The process in which the checks of an engine run."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest

from dlsys_bench.conformance import process
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import Status
from dlsys_bench.process_tree import resident


def workers(monkeypatch: pytest.MonkeyPatch, occupied: list[int]) -> int:
    """Return the number of workers that run checks, after which they occupy some GiB of memory."""
    found: set[int] = set()
    left = iter(occupied)
    monkeypatch.setattr(process, "resident", lambda _: next(left) << 30)
    with contextlib.closing(ProcessRunner("numpy")) as runner:
        for _ in occupied:
            runner.create()
            assert runner.process is not None
            found.add(runner.process.pid)
            assert runner.run("shapes/dense").status is Status.PASSED
    return len(found)


@pytest.mark.rotates("workers that have grown", 2)
@pytest.mark.parametrize(
    ("occupied", "expected"), [([1, 2, 1], 1), ([1, 3, 1], 2), ([4, 7, 4], 1), ([4, 9, 4], 2)]
)
def test_a_worker_that_has_grown_large_runs_no_other_check(
    occupied: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workers(monkeypatch, occupied) == expected


def test_the_memory_of_a_process_is_counted() -> None:
    holds = "import sys; held = bytearray(b'x' * 200_000_000); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 200_000_000 < resident(child.pid) < 600_000_000
        child.kill()
    assert resident(child.pid) == 0
