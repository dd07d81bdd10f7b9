"""Background load: how much processor time other processes use while something is timed."""

from __future__ import annotations

import time
from types import TracebackType

import psutil

BUSY = 0.05
"""A fraction of the time of all cores. With more background load than this, a timing is not
used."""

LEAST_SECONDS = 1.0
"""The shortest time over which the load is measured: the system counts in hundredths of a
second."""


class BackgroundLoad:
    """A context manager that measures the load of all other processes between entry and exit.

    Afterwards, `fraction` is the part of the time of all cores that was neither idle nor used by
    this process and its descendants, from 0 to 1. If less than LEAST_SECONDS passed, the exit waits
    for the rest; it is None if an exception was raised before. Load that lasts through all rounds
    of a benchmark does not show in their standard deviation; it shows here.
    """

    fraction: float | None = None

    def __enter__(self) -> BackgroundLoad:
        self._children = _children_seconds()
        self._started, self._busy, self._own = time.perf_counter(), _busy(), _own()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = time.perf_counter() - self._started
        if seconds < LEAST_SECONDS:
            if error is not None:
                return
            time.sleep(LEAST_SECONDS - seconds)
            seconds = time.perf_counter() - self._started
        busy, own, children = _busy() - self._busy, _own() - self._own, _children_seconds()
        own += sum(used - self._children.get(child, 0.0) for child, used in children.items())
        # The system adds the whole time of a child that has ended to its parent's; what the child
        # had used before the entry does not belong to this measurement.
        own -= sum(used for child, used in self._children.items() if child not in children)
        available = seconds * (psutil.cpu_count() or 1)
        self.fraction = min(max((busy - own) / available, 0.0), 1.0)


def _busy() -> float:
    """Return the seconds that all cores have worked, including time stolen by a hypervisor."""
    times = psutil.cpu_times()
    # The time of a guest is already part of the user time.
    idle = {"idle", "iowait", "guest", "guest_nice"}
    return float(sum(value for name, value in times._asdict().items() if name not in idle))


def _own() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    times = psutil.Process().cpu_times()
    # Windows does not report the time of children that have ended.
    children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(time.process_time() + children)


def _children_seconds() -> dict[int, float]:
    """Return the processor seconds of each living descendant, by process ID."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            found[child.pid] = float(times.user + times.system)
        except psutil.Error:
            continue
    return found
