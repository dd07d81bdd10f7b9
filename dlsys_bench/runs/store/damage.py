"""What can still be read of a damaged store."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import warnings
from contextlib import closing, suppress
from pathlib import Path

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.schema import MAGIC, MIGRATIONS

LEAST_BYTES = 300
"""No stored run takes fewer."""

PAGE = 4096

NOT_A_RUN = (ValueError, KeyError, TypeError, AttributeError)
"""What is raised by a text that holds no run."""


def copied(path: Path, folder: str) -> Path:
    """A copy of a store with what its log holds, to be read where it lies."""
    copy = Path(folder) / "copy.db"
    for end in ("", "-wal"):
        if (part := path.with_name(path.name + end)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + end))
    return copy


def salvaged(path: Path) -> list[Result]:
    """The runs of a damaged store that can be read, run by run, from a copy: the file is left as it
    is."""
    found: dict[int, Result] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(sqlite3.Error, OSError):
        copy = copied(path, folder)
        _mend(copy)
        with closing(sqlite3.connect(copy)) as connection:
            for number in range(1, copy.stat().st_size // LEAST_BYTES + 1):
                # A page that is lost takes its own runs with it, not those after it.
                with suppress(sqlite3.Error):
                    row = connection.execute(
                        "SELECT result FROM runs WHERE id = ?", (number,)
                    ).fetchone()
                    with suppress(*NOT_A_RUN):
                        found[number] = Result.from_dict(json.loads(row[0]))
    return list(found.values())


def _mend(copy: Path) -> None:
    """Make a file one that SQLite reads at all: with a first page, and as long as that says."""
    with copy.open("r+b") as file:
        head = file.read(PAGE)
        if not head.startswith(MAGIC) or len(head) < PAGE:
            # The first page holds the tables' definitions, which are the same in every store.
            pages = -(-copy.stat().st_size // PAGE)
            first = bytearray(_first_page())
            first[28:32] = pages.to_bytes(4, "big")
            file.seek(0)
            file.write(first)
            copy.with_name(copy.name + "-wal").unlink(missing_ok=True)
        file.seek(0)
        head = file.read(32)
        size = int.from_bytes(head[16:18], "big") * int.from_bytes(head[28:32], "big")
        if size > copy.stat().st_size:
            file.truncate(size)


def _first_page() -> bytes:
    """The first page of a store in which there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        new = Path(folder) / "new.db"
        with closing(sqlite3.connect(new)) as connection:
            for statement in MIGRATIONS:
                connection.execute(statement)
        return new.read_bytes()[:PAGE]


def parsed(text: str | bytes, where: str) -> Result | None:
    """A run from its JSON; a damaged one is named in a warning, and None."""
    try:
        return Result.from_dict(json.loads(text))
    except NOT_A_RUN as error:
        warnings.warn(f"{where} cannot be read and was left out: {error!r}", stacklevel=2)
        return None
