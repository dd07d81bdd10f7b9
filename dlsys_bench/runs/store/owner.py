"""Who has taken a run on: a process, told from a later one of the same number by when it
started."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import NamedTuple

SAME_START = 2.0
"""Start times of one process are computed from the clock, and may differ by less than this, in
seconds."""


class Owner(NamedTuple):
    """A process on a host. On another host it cannot be asked, and counts as living."""

    host: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Owner:
        """This process."""
        return _of(os.getpid())

    def lives(self) -> bool:
        import psutil

        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(process.create_time() - self.started) < SAME_START
        except psutil.NoSuchProcess:
            return False


@cache
def _of(pid: int) -> Owner:
    import psutil

    return Owner(socket.gethostname(), pid, psutil.Process(pid).create_time())
