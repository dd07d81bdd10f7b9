"""The end of a process together with all that it started."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil


def kill_tree(pid: int) -> None:
    """Kill the descendants of a process and, if it leads a process group, the whole group.

    The group includes processes whose parents have ended. A descendant that leads a session of its
    own is killed as well while its parents live. A process that has ended is no error.
    """
    descendants: list[psutil.Process] = []
    with suppress(psutil.Error):
        descendants = psutil.Process(pid).children(recursive=True)
    for process in descendants:
        with suppress(psutil.Error):
            process.kill()
    if hasattr(os, "killpg"):
        with suppress(OSError):  # It leads no group until it has set one up.
            os.killpg(pid, signal.SIGKILL)
