"""What is in a store's file, by version, and how one of an earlier version is brought up.

Version 2 (`PRAGMA user_version`; `application_id` says that it is ours):

    runs          a row a run, in order of storing: id, the columns of a Key, attempt (1, 2, ... of one key), status,
                  time (UTC: when the run ended), result (the run whole, as its JSON line)
    reservations  a row a run in flight, so that several commands at once share the work: a Key, and its owner's host,
                  pid and start (since version 2)
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
    f"CREATE TABLE runs (id INTEGER PRIMARY KEY, {_COLUMNS}, attempt INTEGER NOT NULL, status TEXT NOT NULL, "
    f"time TEXT NOT NULL, result TEXT NOT NULL, UNIQUE ({KEY}, attempt))",
    f"CREATE TABLE reservations ({_COLUMNS}, host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, "
    f"PRIMARY KEY ({KEY}))",
)
"""What makes each version from the one before. What was released is never edited: another is
added."""


class DamagedError(Exception):
    """A file that was a store, as far as one can tell, and can be read only in parts."""


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read nothing that is not ours, not of our time, or not whole. Errors: StoreError,
    DamagedError."""
    try:
        (version,), (application,), (tables,) = (
            connection.execute(query).fetchone()
            for query in (
                "PRAGMA user_version",
                "PRAGMA application_id",
                "SELECT count(*) FROM sqlite_schema",
            )
        )
        if tables and application != APPLICATION:
            raise StoreError(
                f"{path} is another program's database: name a file for the runs of their own"
            )
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{path} has version {version} of the store, this program knows {len(MIGRATIONS)}: update it"
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
    """Whether it is the file that is wrong, not the disk or the moment."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def prepare(connection: sqlite3.Connection) -> None:
    """Make a connection durable, and its file of this version: all the steps there are, or none."""
    # Two that make the file at once may each find it locked at once, without the wait that they
    # asked for.
    patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),):
        return
    connection.execute("BEGIN IMMEDIATE")
    # Read again: another process may have been first.
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for statement in MIGRATIONS[version:]:
        connection.execute(statement)
    if version < len(MIGRATIONS):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def patiently(do: Callable[[], object]) -> None:
    """Do what fails only while another process has the file."""
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
