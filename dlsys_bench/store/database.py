"""The run store: one SQLite file, in which a run is safe as soon as it has ended.

Schema, version 2 (`PRAGMA user_version`; `application_id` says that it is ours):

    runs          a row a run, in order of storing: the columns of a Key, attempt (1, 2, ... of one key), status, time
                  (UTC, when it was stored), result (the run whole, as its JSON line)
    reservations  a row a run in flight, so that several commands at once share the work: a Key, and its owner's host,
                  pid and start

A write-ahead log with full synchronisation: a crash loses at most the run in flight. Several processes of one machine
may write at once.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from dlsys_bench.errors import StoreError, nearest
from dlsys_bench.result import Result
from dlsys_bench.store.key import Key, key_of
from dlsys_bench.store.owner import Owner
from dlsys_bench.store.text import line_of

APPLICATION = 0x646C7362
MAGIC = b"SQLite format 3\x00"
SECONDS_TO_WAIT = 60

LEAST_BYTES = 300
"""No stored run takes fewer."""

_COLUMNS = ", ".join(f"{name} {'INTEGER' if name == 'seed' else 'TEXT'} NOT NULL" for name in Key._fields)
_KEY = ", ".join(Key._fields)
_SAME = " AND ".join(f"{name} = ?" for name in Key._fields)

MIGRATIONS = (
    f"CREATE TABLE runs (id INTEGER PRIMARY KEY, {_COLUMNS}, attempt INTEGER NOT NULL, status TEXT NOT NULL, "
    f"time TEXT NOT NULL, result TEXT NOT NULL, UNIQUE ({_KEY}, attempt))",
    f"CREATE TABLE reservations ({_COLUMNS}, host TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, "
    f"PRIMARY KEY ({_KEY}))",
)
"""What makes each version from the one before."""


class Record(NamedTuple):
    """A stored run with its number, which repetition it is, and when it was stored."""

    number: int
    attempt: int
    time: str
    result: Result


def is_database(path: Path) -> bool:
    """Whether a file is SQLite's, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Store:
    """The runs in a file, which is made if it is not there. For one thread; a context manager.

    A damaged file is set aside as NAME.damaged-TIME, with a warning, and what can be read of it is carried over.
    Errors: StoreError where it cannot be written, was made by a later version, or is somebody else's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write results to {path}: {error.strerror}") from error
        if path.is_dir():
            raise StoreError(f"cannot write results to {path}: Is a directory")
        if path.exists() and path.stat().st_size and not is_database(path) and path.suffix != ".db":
            raise StoreError(f"{path} is no store of runs: a store is an SQLite file, by custom NAME.db")
        try:
            self._connection = self._opened()
        except sqlite3.OperationalError as error:
            raise StoreError(f"cannot write results to {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            saved = self._set_aside(error)
            self._connection = self._opened()
            for result in saved:
                self.add(result)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=SECONDS_TO_WAIT, isolation_level=None)
        try:
            (version,), (application,) = (
                connection.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")
            )
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables and application != APPLICATION:
                raise StoreError(f"{self.path} is another program's database: name a file for the runs of their own")
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self.path} has version {version} of the store, this program knows {len(MIGRATIONS)}: update it"
                )
            found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            if found != ["ok"]:
                raise sqlite3.DatabaseError(found[0].replace("\n", " "))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        # Read again: another process may have been first.
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in MIGRATIONS[version:]:
            connection.execute(statement)
        if version < len(MIGRATIONS):
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")

    def _set_aside(self, why: Exception) -> list[Result]:
        """Rename the file and its log; return the runs that can still be read."""
        place = f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + end).rename(self.path.with_name(place + end))
        aside = self.path.with_name(place)
        saved = _salvaged(aside)
        warnings.warn(
            f"{self.path} is damaged ({why}): it was set aside as {aside}; {len(saved)} runs of it could be read and "
            "are carried over",
            stacklevel=4,
        )
        return saved

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise StoreError(
                f"cannot write results to {self.path}: {error}; the runs written before are kept"
            ) from error

    def add(self, result: Result, once: bool = False) -> bool:
        """Store a run, and end its reservation; with `once` only if none of its key is stored. Says whether it did.

        On the disk when it returns. Errors: StoreError; nothing of the run is then stored.
        """
        key = key_of(result)
        with self._transaction() as connection:
            (last,) = connection.execute(f"SELECT max(attempt) FROM runs WHERE {_SAME}", key).fetchone()
            connection.execute(f"DELETE FROM reservations WHERE {_SAME}", key)
            if once and last:
                return False
            marks = ", ".join("?" * (len(key) + 4))
            now = datetime.now(UTC).isoformat(timespec="seconds")
            connection.execute(
                f"INSERT INTO runs ({_KEY}, attempt, status, time, result) VALUES ({marks})",
                (*key, (last or 0) + 1, result.status, now, line_of(result)),
            )
        return True

    def records(self, every: bool = False, **where: object) -> list[Record]:
        """Stored runs in order of storing: the last attempt of each key, or `every` one; `where` names columns and what
        is in them. Errors: StoreError."""
        known = (*Key._fields, "status", "id")
        for name in where:
            if name not in known:
                raise StoreError(f"runs have no column {name!r}{nearest(name, known)}; they have {', '.join(known)}")
        asked = " AND ".join(["1", *(f"{name} = ?" for name in where)])
        last = f"attempt = (SELECT max(attempt) FROM runs AS other WHERE {_SAME.replace('?', 'runs.%s')})"
        last = last % Key._fields if not every else "1"
        try:
            rows = self._connection.execute(
                f"SELECT id, attempt, time, result FROM runs WHERE {asked} AND {last} ORDER BY id",
                tuple(where.values()),
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read results from {self.path}: {error}") from error
        return [Record(number, attempt, time, _parsed(text)) for number, attempt, time, text in rows]

    def runs(self, every: bool = False, **where: object) -> list[Result]:
        """The results of `records`."""
        return [record.result for record in self.records(every, **where)]

    def keys(self) -> set[Key]:
        """The key of every stored run."""
        return {Key(*row) for row in self._connection.execute(f"SELECT DISTINCT {_KEY} FROM runs")}

    def reserve(self, key: Key, owner: Owner | None = None, *, again: bool = False) -> bool:
        """Take a run on for a process, this one unless it is named. False where it is stored already (unless it is made
        `again`), or another living process has taken it on."""
        mine = owner or Owner.this()
        with self._transaction() as connection:
            if not again and connection.execute(f"SELECT 1 FROM runs WHERE {_SAME}", key).fetchone():
                return False
            row = connection.execute(f"SELECT host, pid, started FROM reservations WHERE {_SAME}", key).fetchone()
            if row and Owner(*row) != mine and Owner(*row).lives():
                return False
            marks = ", ".join("?" * (len(key) + len(mine)))
            connection.execute(f"INSERT OR REPLACE INTO reservations VALUES ({marks})", (*key, *mine))
        return True

    def release(self, key: Key, owner: Owner | None = None) -> None:
        """Give a run up that a process has taken on, this one unless it is named."""
        with self._transaction() as connection:
            owned = f"DELETE FROM reservations WHERE {_SAME} AND host = ? AND pid = ? AND started = ?"
            connection.execute(owned, (*key, *(owner or Owner.this())))

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_database(path: Path) -> list[Result]:
    """The last attempt of every run in a store, which is only read. Errors: StoreError."""
    # A file that nobody may write is read as it stands: its log has been taken in, or there is none.
    for way in ("mode=ro", "immutable=1"):
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?{way}", uri=True, timeout=SECONDS_TO_WAIT)
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA query_only = 1")
            try:
                rows = connection.execute(f"SELECT {_KEY}, result FROM runs ORDER BY id").fetchall()
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            reason: sqlite3.Error = error
            continue
        except sqlite3.DatabaseError as error:
            reason = error
            break
        # A later attempt takes the place of the one before, and its own in the order.
        last = {row[:-1]: row[-1] for row in rows}
        order = dict.fromkeys(row[:-1] for row in reversed(rows))
        return [_parsed(last[key]) for key in reversed(order)]
    raise StoreError(
        f"cannot read results from {path}: {reason}; a command that writes to it sets it aside and saves what it can"
    ) from reason


def _parsed(text: str) -> Result:
    return Result.from_dict(json.loads(text))


def _salvaged(path: Path) -> list[Result]:
    """What can be read of a damaged store, run by run, from a copy."""
    found: dict[int, Result] = {}
    with tempfile.TemporaryDirectory() as folder, suppress(sqlite3.Error, OSError):
        copy = Path(folder) / "copy.db"
        for end in ("", "-wal"):
            if (part := path.with_name(path.name + end)).exists():
                shutil.copyfile(part, copy.with_name(copy.name + end))
        with copy.open("r+b") as file:
            # Cut short, it would not be read at all: its header says how many pages it had, and how long they were.
            header = file.read(32)
            size = int.from_bytes(header[16:18], "big") * int.from_bytes(header[28:32], "big")
            if size > copy.stat().st_size:
                file.truncate(size)
        connection = sqlite3.connect(copy)
        for number in range(1, max(size, copy.stat().st_size) // LEAST_BYTES):
            # A page that is lost takes its own runs with it, not those after it.
            with suppress(sqlite3.Error, ValueError, KeyError, TypeError, AttributeError):
                row = connection.execute("SELECT result FROM runs WHERE id = ?", (number,)).fetchone()
                found[number] = _parsed(row[0])
        connection.close()
    return list(found.values())
