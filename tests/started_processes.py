"""The processes of commands that a test has started in a folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the running processes whose PYTHONPATH begins with a folder.

    They include workers in sessions of their own, and those whose parent has ended.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            first = process.environ().get("PYTHONPATH", "").partition(os.pathsep)[0]
            if first == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes_of(folder: Path) -> None:
    """Kill the processes whose PYTHONPATH begins with a folder."""
    for process in processes_of(folder):
        with suppress(psutil.Error):
            process.kill()
