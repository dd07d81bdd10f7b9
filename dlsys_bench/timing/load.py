"""How much of the machine others take while something is timed here."""

from __future__ import annotations

import time
from types import TracebackType

import psutil

BUSY = 0.05
"""Of all cores' time. With more than this taken, what was timed says nothing of what was to be
timed."""

LEAST_SECONDS = 1.0
"""The system counts in hundredths of a second: of less time than this it cannot tell."""


class Others:
    """A context; afterwards `share` is the part of all cores' time that was neither idle nor taken
    by this process and what it started; None where the time was too short to say.

    Bursts of load may last longer than all rounds of a benchmark: no spread of the rounds tells of
    them, this does.
    """

    share: float | None = None

    def __enter__(self) -> Others:
        self._children = _living()
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
            return
        busy, own, living = _busy() - self._busy, _own() - self._own, _living()
        own += sum(taken - self._children.get(child, 0.0) for child, taken in living.items())
        # One that has ended meanwhile brings all that it ever took, and had some of it before.
        own -= sum(taken for child, taken in self._children.items() if child not in living)
        self.share = min(max((busy - own) / (seconds * (psutil.cpu_count() or 1)), 0.0), 1.0)


def _busy() -> float:
    """Seconds that all cores have been at work, for this machine or, stolen, for another one."""
    times = psutil.cpu_times()
    # A guest's time is within its user's.
    idle = {"idle", "iowait", "guest", "guest_nice"}
    return float(sum(value for name, value in times._asdict().items() if name not in idle))


def _own() -> float:
    ended = psutil.Process().cpu_times()
    return float(time.process_time() + ended.children_user + ended.children_system)


def _living() -> dict[int, float]:
    """Seconds that each child, and theirs, has taken."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
            found[child.pid] = float(times.user + times.system)
        except psutil.Error:
            continue
    return found
