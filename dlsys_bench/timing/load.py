"""How much of the machine others take while something is timed here."""

from __future__ import annotations

import time
from types import TracebackType

import psutil

BUSY = 0.05
"""Of all cores' time. With more than this taken, what was timed says nothing of what was to be timed."""


class Others:
    """A context; afterwards `share` is the part of all cores' time that was not idle and not this process's own.

    Bursts of load may last longer than all rounds of a benchmark: no spread of the rounds tells of them, this does.
    """

    share = 0.0

    def __enter__(self) -> Others:
        self._started, self._busy, self._own = time.perf_counter(), _busy(), _own()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = (time.perf_counter() - self._started) * (psutil.cpu_count() or 1)
        others = _busy() - self._busy - (_own() - self._own)
        self.share = min(max(others / seconds, 0.0), 1.0) if seconds else 0.0


def _busy() -> float:
    """Seconds that all cores have been at work, for this machine or, stolen, for another one."""
    times = psutil.cpu_times()
    # A guest's time is within its user's.
    idle = {"idle", "iowait", "guest", "guest_nice"}
    return float(sum(value for name, value in times._asdict().items() if name not in idle))


def _own() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
