"""A process together with all that it has started, and the end of both."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

import psutil

# Of <sys/prctl.h>: a process adopts the orphans among its descendants.
PR_SET_CHILD_SUBREAPER = 36
ROUNDS = 20


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants that have not ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def resident(pid: int) -> int:
    """Return the bytes of memory that a process and its descendants occupy."""
    occupied = 0
    for process in tree(pid):
        with suppress(psutil.Error):
            occupied += process.memory_info().rss
    return occupied


def set_attribute(option: int, value: int) -> bool:
    """Set an attribute of this process by `prctl`; return False where there is none."""
    if sys.platform != "linux" or not hasattr(os, "fork"):
        return False
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(option, value, 0, 0, 0) == 0


def adopt_orphans() -> bool:
    """Keep processes in the tree of this one when their parents end, and return True if that works.

    No descendant can leave the tree then, not even by forking twice and creating a session.
    """
    return set_attribute(PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(pid: int) -> None:
    """Kill the descendants of a process until there are none."""
    for _ in range(ROUNDS):
        alive = [process for process in tree(pid)[1:] if not _has_ended(process)]
        if not alive:
            return
        for process in alive:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=1)


def end_tree(pid: int) -> None:
    """Kill the descendants of a process, the group that it leads, and the process.

    The group includes processes whose parents have ended. A process that has ended is no error.
    """
    end_descendants(pid)
    if hasattr(os, "killpg"):
        with suppress(OSError):  # It leads no group until it has created one.
            os.killpg(pid, signal.SIGKILL)
    with suppress(psutil.Error):
        psutil.Process(pid).kill()


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
