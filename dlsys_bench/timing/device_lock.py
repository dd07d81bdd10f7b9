"""A lock on a GPU: two programs that are timed on one GPU at the same time slow each other down."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dlsys_bench.errors import UserError
from dlsys_bench.runs.store.lock import descriptor_lock
from dlsys_bench.timing.gpu import read, visible_gpu

_HELD: set[Path] = set()
"""The locks that this process holds."""


@contextmanager
def exclusive(device: str) -> Iterator[None]:
    """Hold the lock of a device; wait until no other process holds it.

    A process that already holds the lock enters at once. A CPU has no lock. The lock is on a file
    in the folder of temporary files that is named after the GPU's UUID, so it does not depend on
    how the process numbers its GPUs; it is released when the process ends. Raises UserError if the
    file cannot be created.
    """
    if device.partition(":")[0] == "cpu" or (path := _path(device)) in _HELD:
        yield
        return
    with descriptor_lock(_opened(path, device)):
        _HELD.add(path)
        try:
            yield
        finally:
            _HELD.discard(path)


def _path(device: str) -> Path:
    gpu = read(device)
    kind, _, number = device.partition(":")
    name = (gpu and gpu.uuid) or f"{kind}-{visible_gpu(device) or number or 0}"
    return Path(tempfile.gettempdir()) / f"dlsys_bench-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.lock"


def _opened(path: Path, device: str) -> int:
    # The first process creates the file, and every user has to be able to open it. The two steps
    # are separate because Linux forbids opening a file of another user in /tmp with O_CREAT.
    with suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644))
        path.chmod(0o644)
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot wait for {device} at {path}: {error.strerror}") from error
