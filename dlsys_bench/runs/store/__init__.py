"""Runs on disk: in a store (SQLite), or as text (JSON lines). A file's name says which: text is
NAME.jsonl."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.database import Record, Store, is_database, read_database
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
    opened,
    read_text,
    results_of,
    write_text,
)


def is_text(path: Path) -> bool:
    return path.suffix == ".jsonl"


def read(path: str | Path) -> list[Result]:
    """The runs of a file of either kind, of a store the last attempt of each. Errors:
    StoreError."""
    path = Path(path)
    return read_database(path) if is_database(path) else read_text(path)


def append(path: str | Path, result: Result) -> None:
    """Add a run to a file of either kind, durably and whole. Errors: StoreError."""
    path = Path(path)
    if is_text(path):
        append_text(path, result)
        return
    with Store(path) as store:
        store.add(result)


def check_writable(path: Path) -> None:
    """Find out that a file cannot be written before a training has run for hours. Errors:
    StoreError."""
    if is_text(path):
        os.close(opened(path))
    else:
        with Store(path) as store:
            store.try_to_write()


def done(results: Iterable[Result]) -> set[Key]:
    """What need not be run again."""
    return {result.key for result in results}


__all__ = [
    "REFERENCE",
    "Key",
    "Record",
    "Store",
    "append",
    "check_writable",
    "done",
    "file_name",
    "find_reference",
    "is_text",
    "line_of",
    "opened",
    "read",
    "reference_path",
    "reference_runs",
    "results_of",
    "write_text",
]
