"""Locks between processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, lock_descriptor, unlock_descriptor

from dlsys_bench.errors import StoreError

LOCK = ".lock"
"""The name of a folder's lock file."""


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold the lock of the folder of a file, for work that takes several steps on its files.

    Waits until no other process holds it. The operating system releases the lock when the process
    ends, however it ends. Raises StoreError if the lock file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.parent / LOCK)
        lock.acquire()
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error
    try:
        yield
    finally:
        # A process that waits on a file which is deleted here opens another one. Windows refuses to
        # delete an open file; it then stays, which does no harm.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def descriptor_lock(descriptor: int) -> Iterator[None]:
    """Hold the lock of an open file, and close the file afterwards.

    Unlike a lock file that the process has to be allowed to write, the file may belong to another
    user: it is enough that it can be read.
    """
    try:
        lock_descriptor(descriptor)
        try:
            yield
        finally:
            # Closing alone would leave the lock to a child process that inherited the file.
            unlock_descriptor(descriptor)
    finally:
        os.close(descriptor)
