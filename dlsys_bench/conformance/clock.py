"""The time that a check uses, on a machine that other programs use too.

Time in which a program waits for a processor tells nothing about the program. What counts is
therefore its CPU time, in which threads and processes that run in parallel count once: on an idle
machine that is the time on the wall. A program that waits for something else uses no CPU time, so
there is a limit on that as well.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable

import psutil

from dlsys_bench.process_tree import tree
from dlsys_bench.provenance import cores

PATIENCE = 10
"""How many times its CPU time something may take in total, on a machine that is not loaded."""

LARGEST_LOAD = 4.0
"""The largest factor by which the load of the machine prolongs a wait that uses no CPU time."""

LINUX = sys.platform == "linux"

LONGEST_LOOK = 1.0
"""The seconds between two looks at a process."""


def own_cpu_time() -> float:
    """Return the CPU time of this process and of its children that have ended, such as a
    compiler."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


class Stopwatch:
    """The seconds of CPU time since it was started, with that of children that have ended, or a
    tenth of all seconds if that is more."""

    def __init__(self) -> None:
        self.began, self.began_cpu = time.perf_counter(), own_cpu_time()

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        total = time.perf_counter() - self.began
        cpu = own_cpu_time() - self.began_cpu
        return max(min(total, cpu), total / PATIENCE)


class TimeLimit:
    """A limit on the time that a process and its descendants use.

    Time without any use of a processor counts too, as much less as the machine is loaded, but at
    least a quarter of it. A process that waits for a processor is not charged, until it has taken
    PATIENCE times the limit.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        self.pid, self.seconds = pid, seconds
        self.interval = min(LONGEST_LOOK, seconds / 4)
        self.began = self.looked = time.monotonic()
        self.charged = self.busy = 0.0
        self.patience = 0.0
        self.cpu, _ = cpu_time(pid)

    def look(self) -> bool:
        """Charge the time since the last look, and return True if the limit is reached."""
        now = time.monotonic()
        # This process may have been suspended in between.
        since = min(now - self.looked, 5 * self.interval)
        cpu, runs = cpu_time(self.pid)
        used, load = min(since, cpu - self.cpu), load_per_core()
        if used > 0:
            self.charged += used
            self.busy += used
        elif not runs:
            self.charged += since / min(load, LARGEST_LOAD)
        self.patience += since / load
        self.looked, self.cpu = now, cpu
        return self.charged >= self.seconds or self.patience >= PATIENCE * self.seconds

    def __str__(self) -> str:
        return f"{self.busy:.0f} s of CPU time, {time.monotonic() - self.began:.0f} s in total"


def cpu_time(pid: int) -> tuple[float, bool]:
    """Return the CPU time of a process with its descendants, and True if one of them runs or waits
    for a processor."""
    total, runs = 0.0, False
    for process in tree(pid):
        try:
            total += _all_of(process.cpu_times())
            # Elsewhere, a process that sleeps has this status too.
            runs = runs or (LINUX and process.status() == psutil.STATUS_RUNNING)
        except psutil.Error:  # It has just ended.
            continue
    return total, runs


def _all_of(times: Iterable[float]) -> float:
    """Return the sum of the times of a process and of its children that have ended."""
    return sum(list(times)[:4])


def load_per_core() -> float:
    """Return the number of programs for each core that this process may use, at least 1."""
    load = 1.0
    with contextlib.suppress(AttributeError, OSError):  # Some platforms do not know it.
        load = psutil.getloadavg()[0]
    return max(1.0, load / cores())
