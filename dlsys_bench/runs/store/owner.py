"""The owner of a reservation: a process, identified by its start time as well as its ID, which a
later process may get again."""

from __future__ import annotations

import os
import socket
from functools import cache
from typing import NamedTuple

import psutil

SAME_START = 2.0
"""Two start times of one process differ by less than this, in seconds: they are computed from the
clock."""


class Owner(NamedTuple):
    """A process on a host."""

    host: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Owner:
        """Return this process."""
        return _of(os.getpid())

    def lives(self) -> bool:
        """Return whether the process is running. A process of another host counts as running,
        because it cannot be looked up."""
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
    return Owner(socket.gethostname(), pid, psutil.Process(pid).create_time())
