"""A device for oneself: two things timed on one GPU at once are timed wrong, both."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlsys_bench.errors import UserError
from dlsys_bench.runs.store.lock import held
from dlsys_bench.timing.gpu import chosen, read

_MINE: set[Path] = set()


@contextmanager
def taken(device: str) -> Iterator[None]:
    """While no other process is in here for the same device; waits until then. A process that is in
    here already comes in again; a CPU is not waited for. Errors: UserError where the folder of
    temporary files takes no file.

    The lock is on a file there, named for the GPU whatever it is called by, and ends with the
    process.
    """
    if device.partition(":")[0] == "cpu" or (path := _path(device)) in _MINE:
        yield
        return
    with held(_opened(path, device)):
        _MINE.add(path)
        try:
            yield
        finally:
            _MINE.discard(path)


def _path(device: str) -> Path:
    gpu = read(device)
    name = (
        gpu and gpu.uuid
    ) or f"{device.partition(':')[0]}-{chosen(device) or device.partition(':')[2] or 0}"
    return Path(tempfile.gettempdir()) / f"dlsys_bench-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"


def _opened(path: Path, device: str) -> int:
    # Made by whoever comes first, and to be opened by everybody: Linux lets nobody create what
    # another's is in /tmp.
    with suppress(OSError):
        made = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL)
        os.fchmod(made, 0o644)
        os.close(made)
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot wait for {device} at {path}: {error.strerror}") from error
