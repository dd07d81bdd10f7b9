"""The time that a check uses: what is charged, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from dlsys_bench.conformance import clock
from dlsys_bench.conformance.clock import PATIENCE, Stopwatch, TimeLimit
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.runner import THREADS, replay_line
from dlsys_bench.conformance.trial import Options
from dlsys_bench.provenance import cores


class Machine:
    """A machine whose clocks the test moves, and on which one process is observed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.cpu = 0.0
        self.runs, self.load = False, 1.0
        for name in ("perf_counter", "monotonic"):
            monkeypatch.setattr(time, name, lambda: self.now)
        monkeypatch.setattr(clock, "own_cpu_time", lambda: self.cpu)
        monkeypatch.setattr(clock, "cpu_time", lambda pid: (self.cpu, self.runs))
        monkeypatch.setattr(clock, "load_per_core", lambda: self.load)

    def seconds_until(self, limit: TimeLimit, cpu: float) -> float:
        """Return the seconds until a limit is reached by a process that uses `cpu` seconds each."""
        while not limit.look():
            self.now += 1
            self.cpu += cpu
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("cpu", "runs", "load", "seconds"),
    [
        pytest.param(1.0, True, 1.0, 20, id="one thread"),
        pytest.param(16.0, True, 1.0, 20, id="threads count once"),
        pytest.param(0.25, True, 5.0, 80, id="CPU time is what counts"),
        pytest.param(0.0, False, 1.0, 20, id="hangs"),
        pytest.param(0.0, False, 3.0, 60, id="hangs on a loaded machine"),
        pytest.param(0.0, False, 9.0, 80, id="hangs on a machine with any load"),
        pytest.param(0.0, True, 5.0, 20 * 5 * PATIENCE, id="waits for a processor"),
        pytest.param(0.01, False, 1.0, 20 * PATIENCE, id="wakes up now and then"),
    ],
)
def test_a_limit_is_reached_after(
    cpu: float, runs: bool, load: float, seconds: float, machine: Machine
) -> None:
    machine.runs, machine.load = runs, load
    found = machine.seconds_until(TimeLimit(0, 20.0), cpu)
    assert found == pytest.approx(seconds, abs=1.5)


def test_the_time_of_a_suspended_parent_is_not_charged(machine: Machine) -> None:
    limit = TimeLimit(0, 20.0)
    machine.now += 3600
    assert not limit.look()


def test_a_stopwatch_shows_the_cpu_time_and_at_least_a_tenth_of_all(machine: Machine) -> None:
    watch = Stopwatch()
    machine.now, machine.cpu = 5.0, 2.0
    assert watch.seconds == 2.0
    machine.cpu = 40.0
    assert watch.seconds == 5.0
    machine.now = 1000.0
    assert watch.seconds == 100.0


def test_the_cpu_time_of_this_process_is_measured() -> None:
    before = clock.cpu_time(os.getpid())[0]
    while time.process_time() < 0.1:
        pass
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert clock.cpu_time(os.getpid())[0] > before


def test_the_cpu_time_of_children_counts_when_they_have_ended() -> None:
    before, own = clock.own_cpu_time(), time.process_time()
    subprocess.run([sys.executable, "-S", "-c", "sum(range(1_000_000))"], check=True)
    # Without the child, both would have grown alike.
    assert clock.own_cpu_time() - before > time.process_time() - own


def test_the_threads_that_the_user_has_set_are_kept_and_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    assert not {*THREADS} & ProcessRunner("numpy").environment().keys()
    assert ProcessRunner("numpy", threads=3).environment()["MKL_NUM_THREADS"] == "3"
    assert "--threads" not in replay_line("conform", "loss/hinge", Options())
    assert "--threads" not in replay_line("conform", "loss/hinge", Options(), cores())
    assert replay_line("conform", "loss/hinge", Options(), 99).endswith(" --threads 99")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    environment = ProcessRunner("numpy").environment()
    assert environment["MKL_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in environment
    assert replay_line("conform", "loss/hinge", Options()).endswith(" --threads 7")


def test_threads_wait_without_keeping_a_core_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert ProcessRunner("numpy").environment()["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert ProcessRunner("numpy").environment()["OMP_WAIT_POLICY"] == "active"
