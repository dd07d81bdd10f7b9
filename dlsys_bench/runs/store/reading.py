"""Read the runs of a store: recognise its file, select rows, and parse them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from dlsys_bench.errors import StoreError, nearest
from dlsys_bench.runs.fields import Field, Name, Whole
from dlsys_bench.runs.key import FIELDS
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.damage import copy_store
from dlsys_bench.runs.store.identity import Found
from dlsys_bench.runs.store.rejected import Rejected, parse, report
from dlsys_bench.runs.store.schema import (
    MAGIC,
    SAME,
    SECONDS_TO_WAIT,
    DamagedError,
    check,
    is_damage,
)

OPEN: Counter[Path] = Counter()
"""The number of connections of this process to each store.

A file with a connection must not be opened in any other way: closing it would release the locks
that SQLite holds on it.
"""

WHOLE, TIME = Whole(), Name()
"""The types of the columns that are read beside the runs."""

COLUMNS = (*FIELDS, "attempt", "status", "id")
"""The columns that runs can be selected by."""


class StoredRun(NamedTuple):
    """A run in a store, with its number there, its attempt (1, 2, ... of one key), and its end."""

    number: int
    attempt: int
    time: str
    result: Result


def is_database(path: Path) -> bool:
    """Return True if a file is an SQLite database, by its first bytes."""
    if OPEN[path.resolve()]:
        return True
    try:
        # Reading from a pipe would take its first bytes away.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def select(every: bool, where: Mapping[str, object]) -> tuple[str, list[object]]:
    """Return the SQL query for runs, and its parameters.

    It selects the last attempt of each key, or `every` attempt, in the rows with these values in
    these columns. Raises StoreError for an unknown column.
    """
    conditions: list[str] = []
    for number, name in enumerate(where, start=1):
        if name not in COLUMNS:
            raise StoreError(
                f"runs have no column {name!r}{nearest(name, COLUMNS)}; "
                f"they have {', '.join(COLUMNS)}"
            )
        value = f"?{number}"
        # The name of a group selects all of its studies.
        group = f" OR substr(study, 1, length({value}) + 1) = {value} || '/'"
        conditions.append(f"({name} = {value}{group if name == 'study' else ''})")
    if not every:
        same = SAME.replace("?", "runs.%s") % FIELDS
        conditions.append(f"attempt = (SELECT max(attempt) FROM runs AS other WHERE {same})")
    condition = " AND ".join(conditions) or "1"
    query = f"SELECT id, attempt, time, result FROM runs WHERE {condition} ORDER BY id"
    return query, list(where.values())


def parse_rows(rows: list[tuple[Any, ...]], path: Path) -> list[StoredRun]:
    """Return the runs in the rows that `select` selects. Others are reported, and set aside."""
    found, rejected = [], []
    for number, attempt, time, content in rows:
        parsed = _parse_row(number, content, (("attempt", WHOLE, attempt), ("time", TIME, time)))
        if isinstance(parsed, Rejected):
            rejected.append(parsed)
        else:
            found.append(StoredRun(number, attempt, time, parsed))
    report(path, rejected, len(found))
    return found


def _parse_row(
    number: object, content: object, columns: Iterable[tuple[str, Field, object]] = ()
) -> Result | Rejected:
    """Return the run in a row, whose columns may have values of any type."""
    place = f"run {number!r:.30}"
    raw = content.encode() if isinstance(content, str) else content
    if not isinstance(raw, bytes):
        return Rejected(place, f"its result is {content!r:.60}; expected a string", b"")
    try:
        for name, kind, value in (("id", WHOLE, number), *columns):
            kind.read(value, name)
    except ValueError as error:
        return Rejected(place, str(error), raw)
    return parse(raw, place)


def read_database(path: Path) -> tuple[list[Found], list[Rejected]]:
    """Return every run of a store in order, and the rows that are none, without writing to it.

    Raises StoreError.
    """
    try:
        try:
            rows = _rows(path, "mode=ro")
        except sqlite3.OperationalError:
            # SQLite needs a lock file beside a store. In a folder that cannot be written, a copy of
            # the store and of its write-ahead log is read instead.
            with tempfile.TemporaryDirectory() as folder:
                rows = _rows(copy_store(path, folder), "mode=rw")
    except DamagedError as error:
        raise StoreError(
            f"cannot read results from {path}: {error}; a command that writes to it sets it aside "
            "and saves what it can"
        ) from error
    except sqlite3.Error as error:
        raise StoreError(f"cannot read results from {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"cannot read results from {path}: {error.strerror}") from error
    parsed = [(number, _parse_row(number, content)) for number, content in rows]
    rejected = [one for _, one in parsed if isinstance(one, Rejected)]
    return [
        Found(f"run {number}", one) for number, one in parsed if not isinstance(one, Rejected)
    ], rejected


def _rows(path: Path, mode: str) -> list[tuple[Any, ...]]:
    """Return the number and the JSON of every run."""
    uri = f"{path.resolve().as_uri()}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=SECONDS_TO_WAIT)) as connection:
        check(connection, path)
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return []  # Another process creates the store at this moment.
        try:
            return connection.execute("SELECT id, result FROM runs ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise DamagedError(str(error)) from error
            raise
