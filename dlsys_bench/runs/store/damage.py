"""Recover the runs of a damaged store.

A store is an SQLite file: a sequence of pages of 4096 bytes. The first page starts with a header,
which states the page size and the number of pages, and contains the definitions of the tables;
every other page holds some of the runs. Two kinds of damage make SQLite refuse the whole file,
although most of the runs are intact:

- The first page is lost. It is the same in all stores but for the number of pages, so that of an
  empty store replaces it.
- The end of the file is lost. SQLite checks the length against the header, so zeros are appended
  up to that length.

In the repaired copy the runs are then read one at a time by number. A read that meets a damaged
page fails, so that only the runs in that page are lost. The damaged file itself is never changed.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.schema import MAGIC, MIGRATIONS
from dlsys_bench.strict_json import loads

MIN_RUN_BYTES = 300
"""A lower bound on the size of a stored run, which bounds the number of runs in a file."""

PAGE_BYTES = 4096

# The header of an SQLite file: the page size, then the number of pages, both big-endian.
_PAGE_SIZE, _PAGE_COUNT = slice(16, 18), slice(28, 32)


def copy_store(path: Path, folder: str) -> Path:
    """Copy a store and its write-ahead log into a folder, and return the path of the copy."""
    copy = Path(folder) / "copy.db"
    for suffix in ("", "-wal"):
        if (part := path.with_name(path.name + suffix)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + suffix))
    return copy


def recover(path: Path) -> list[Result]:
    """Return the runs of a damaged store that can be read. The file is not changed."""
    found: dict[int, Result] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(sqlite3.Error, OSError):
        copy = copy_store(path, folder)
        _repair(copy)
        with closing(sqlite3.connect(copy)) as connection:
            for number in range(1, copy.stat().st_size // MIN_RUN_BYTES + 1):
                # Only the reads of runs in a damaged page fail.
                with suppress(sqlite3.Error):
                    row = connection.execute(
                        "SELECT result FROM runs WHERE id = ?", (number,)
                    ).fetchone()
                    # There may be no row of the number, and its text may be damaged.
                    with suppress(TypeError, ValueError):
                        found[number] = Result.from_dict(loads(row[0]))
    return list(found.values())


def _repair(copy: Path) -> None:
    """Replace a lost first page, and append a lost end, so that SQLite opens the file."""
    with copy.open("r+b") as file:
        first = file.read(PAGE_BYTES)
        if not first.startswith(MAGIC) or len(first) < PAGE_BYTES:
            page = bytearray(_empty_first_page())
            page[_PAGE_COUNT] = (-(-copy.stat().st_size // PAGE_BYTES)).to_bytes(4, "big")
            file.seek(0)
            file.write(page)
            # The write-ahead log was written for the lost page and does not match the new one.
            copy.with_name(copy.name + "-wal").unlink(missing_ok=True)
        file.seek(0)
        header = file.read(32)
        stated = int.from_bytes(header[_PAGE_SIZE], "big") * int.from_bytes(
            header[_PAGE_COUNT], "big"
        )
        if stated > copy.stat().st_size:
            file.truncate(stated)


def _empty_first_page() -> bytes:
    """Return the first page of an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "new.db"
        with closing(sqlite3.connect(new)) as connection:
            for statement in MIGRATIONS:
                connection.execute(statement)
        return new.read_bytes()[:PAGE_BYTES]
