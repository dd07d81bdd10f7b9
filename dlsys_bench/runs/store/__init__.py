"""Runs on disk: in a store (SQLite), or as text (JSON lines) if the name ends in .jsonl."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.database import Store
from dlsys_bench.runs.store.identity import Found, last_of_each
from dlsys_bench.runs.store.reading import StoredRun, is_database, read_database
from dlsys_bench.runs.store.reference import (
    REFERENCE,
    file_name,
    find_reference,
    reference_path,
)
from dlsys_bench.runs.store.rejected import Rejected, report, warn
from dlsys_bench.runs.store.text import (
    append_text,
    check_creatable,
    check_text_writable,
    line_of,
    open_to_append,
    read_text,
    write_text,
)


def is_text(path: Path) -> bool:
    """Return True if the name is that of a text file."""
    return path.suffix == ".jsonl"


class FileRuns(NamedTuple):
    """The runs of a file, the last of each key, and the lines or rows that are none."""

    runs: list[Result]
    rejected: list[Rejected]


def read_file(path: str | Path) -> FileRuns:
    """Return the runs of a file of either kind, and what was set aside in it.

    Warns of what was set aside, and of runs with one key and different results. Raises StoreError
    if the file cannot be read, or holds other contents than runs.
    """
    path = Path(path)
    found, rejected = _contents(path)
    report(path, rejected, len(found))
    unique = last_of_each(found)
    for conflict in unique.conflicts:
        warn(f"{path}: {conflict}")
    return FileRuns(unique.runs, rejected)


def read(path: str | Path) -> list[Result]:
    """Return the runs of a file, as `read_file` does."""
    return read_file(path).runs


def read_all(paths: Iterable[str | Path]) -> list[Result]:
    """Return the runs of several files: one run for each key, that of the last file.

    Warns and raises as `read_file` does.
    """
    # A file that is listed twice is read once.
    found = [
        Found(str(path), run)
        for path in {Path(path).resolve(): Path(path) for path in paths}.values()
        for run in read(path)
    ]
    unique = last_of_each(found)
    for conflict in unique.conflicts:
        warn(conflict)
    return unique.runs


def _contents(path: Path) -> tuple[list[Found], list[Rejected]]:
    if is_database(path):
        return read_database(path)
    contents = read_text(path)
    return [found for found, _ in contents.runs], contents.rejected


def reference_runs(path: Path, arm: str, protocol: str) -> list[Result]:
    """Return the runs of an arm by this protocol; those of another protocol are not comparable.

    Warns and raises as `read_file` does.
    """
    return [
        run
        for run in (read(path) if path.exists() else [])
        if (run.key.arm, run.key.protocol) == (arm, protocol)
    ]


def append(path: str | Path, result: Result) -> None:
    """Add a run to a file of either kind, durably and completely. Raises StoreError."""
    path = Path(path)
    if is_text(path):
        append_text(path, result)
        return
    with Store(path) as store:
        store.add(result)


def check_writable(path: Path) -> None:
    """Raise a StoreError if a file cannot be written, before a training of hours has run.

    A file that is missing is not created: the command may end before it has a run to write.
    """
    if is_text(path):
        check_text_writable(path)
    elif not path.exists():
        check_creatable(path)
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
    "check_text_writable",
    "check_writable",
    "file_name",
    "find_reference",
    "is_text",
    "line_of",
    "open_to_append",
    "read",
    "read_all",
    "read_file",
    "reference_path",
    "reference_runs",
    "stored_keys",
    "write_text",
]
