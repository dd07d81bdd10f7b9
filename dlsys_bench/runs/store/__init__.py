"""Runs on disk: in a store (SQLite), or as text (JSON lines) if the name ends in .jsonl."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.database import Store
from dlsys_bench.runs.store.reading import StoredRun, is_database, read_database
from dlsys_bench.runs.store.reference import (
    REFERENCE,
    file_name,
    find_reference,
    reference_path,
    reference_runs,
)
from dlsys_bench.runs.store.text import (
    append_text,
    line_of,
    open_to_append,
    read_text,
    results_of,
    write_text,
)


def is_text(path: Path) -> bool:
    """Return True if the name is that of a text file."""
    return path.suffix == ".jsonl"


def read(path: str | Path) -> list[Result]:
    """Return the runs of a file of either kind; of a store, the last attempt of each key.

    Raises StoreError.
    """
    path = Path(path)
    return read_database(path) if is_database(path) else read_text(path)


def append(path: str | Path, result: Result) -> None:
    """Add a run to a file of either kind, durably and completely. Raises StoreError."""
    path = Path(path)
    if is_text(path):
        append_text(path, result)
        return
    with Store(path) as store:
        store.add(result)


def check_writable(path: Path) -> None:
    """Raise a StoreError if a file cannot be written, before a training of hours has run."""
    if is_text(path):
        os.close(open_to_append(path))
    else:
        with Store(path) as store:
            store.try_to_write()


def stored_keys(results: Iterable[Result]) -> set[Key]:
    """Return the keys of runs that need not be repeated."""
    return {result.key for result in results}


__all__ = [
    "REFERENCE",
    "Key",
    "Store",
    "StoredRun",
    "append",
    "check_writable",
    "file_name",
    "find_reference",
    "is_text",
    "line_of",
    "open_to_append",
    "read",
    "reference_path",
    "reference_runs",
    "results_of",
    "stored_keys",
    "write_text",
]
