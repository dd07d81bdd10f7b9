"""One process at a time in a folder, for what several steps on its files make."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlsys_bench.errors import StoreError


@contextmanager
def alone_beside(path: Path) -> Iterator[None]:
    """While no other process is in here for a file of the same folder. Errors: StoreError where
    there can be none.

    The lock is on the folder itself: it leaves no file behind, and ends with the process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error
    with held(descriptor):
        yield


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """While no other process holds the file, or the folder, of this descriptor, which is closed
    afterwards."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing alone leaves it to a child that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)
