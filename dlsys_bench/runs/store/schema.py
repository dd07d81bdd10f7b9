"""The schema of a store, by version, and the migration of stores of earlier versions.

Version 2 (`PRAGMA user_version`; `application_id` identifies a store):

    runs          one row per run, in order of storing: id, the columns of a Key, attempt (1, 2, ...
                  for each key), status, time (UTC, when the run ended), result (the JSON line)
    reservations  one row per run in progress, by which several commands share the work: a Key, and
                  host, pid and start of the process that trains it (since version 2)
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.key import FIELDS

APPLICATION = 0x646C7362
MAGIC = b"SQLite format 3\x00"
SECONDS_TO_WAIT = 60

_COLUMNS = ", ".join(
    f"{name} {'INTEGER' if name == 'seed' else 'TEXT'} NOT NULL" for name in FIELDS
)
KEY = ", ".join(FIELDS)
SAME = " AND ".join(f"{name} = ?" for name in FIELDS)

MIGRATIONS = (
    f"CREATE TABLE runs (id INTEGER PRIMARY KEY, {_COLUMNS}, attempt INTEGER NOT NULL, "
    "status TEXT NOT NULL, time TEXT NOT NULL, result TEXT NOT NULL, "
    f"UNIQUE ({KEY}, attempt))",
    f"CREATE TABLE reservations ({_COLUMNS}, host TEXT NOT NULL, pid INTEGER NOT NULL, "
    f"started REAL NOT NULL, PRIMARY KEY ({KEY}))",
)
"""The statement that creates each version from the one before. Released ones never change."""


class DamagedError(Exception):
    """A file that is a store but cannot be read completely."""


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a file is a store of a known version and undamaged.

    Raises StoreError if it is another program's database or of a later version, and DamagedError if
    it is damaged.
    """
    try:
        # The tables first: another process may create the store between two of the queries, which
        # sets the other two together with its tables.
        (tables,), (application,), (version,) = (
            connection.execute(query).fetchone()
            for query in (
                "SELECT count(*) FROM sqlite_schema",
                "PRAGMA application_id",
                "PRAGMA user_version",
            )
        )
        if tables and application != APPLICATION:
            raise StoreError(
                f"{path} is another program's database: choose another file for the runs"
            )
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} has version {version} of the store, this program knows "
                f"{len(MIGRATIONS)}: update it"
            )
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise DamagedError(str(error)) from error
        raise
    if found != "ok":
        raise DamagedError(
            found.removeprefix("*** in database main ***").strip().replace("\n", " ")
        )


def is_damage(error: sqlite3.Error) -> bool:
    """Return True if the file is damaged, not merely locked or out of disk space."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def prepare(connection: sqlite3.Connection) -> None:
    """Make writes durable, and migrate the file to the current version, wholly or not at all."""
    # When two processes create the file together, SQLite may report it as locked without waiting.
    retry_while_busy(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Read again, since another process may have migrated it meanwhile.
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in MIGRATIONS[version:]:
        connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def retry_while_busy(do: Callable[[], object]) -> None:
    """Call a function again while it fails because another process has the file."""
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while True:
        try:
            do()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
