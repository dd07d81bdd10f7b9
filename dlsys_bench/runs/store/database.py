"""The run store: one SQLite file, in which a run is safe as soon as it has ended; its schema is in
`schema`.

A write-ahead log with full synchronisation: a crash loses at most the run in flight. Several
processes of one machine may write at once.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from dlsys_bench.errors import StoreError, nearest
from dlsys_bench.runs.key import FIELDS, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.damage import copied, parsed, salvaged
from dlsys_bench.runs.store.lock import folder_lock
from dlsys_bench.runs.store.owner import Owner
from dlsys_bench.runs.store.schema import (
    KEY,
    MAGIC,
    MIGRATIONS,
    SAME,
    SECONDS_TO_WAIT,
    DamagedError,
    check,
    is_damage,
    prepare,
)
from dlsys_bench.runs.store.text import line_of

_OPEN: Counter[Path] = Counter()
"""The stores that this process has open. To open and close such a file in any other way would end
SQLite's locks."""


class Record(NamedTuple):
    """A stored run with its number, which repetition it is, and when it ended."""

    number: int
    attempt: int
    time: str
    result: Result


def is_database(path: Path) -> bool:
    """Whether a file is SQLite's, by its first bytes."""
    if _OPEN[path.resolve()]:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


class Store:
    """The runs in a file, which is made if it is not there. For one thread; a context manager.

    A damaged file is set aside as NAME.damaged-TIME, with a warning, and what can be read of it is
    carried over. Errors: StoreError where it cannot be written, was made by a later version, or is
    somebody else's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write results to {path}: {error.strerror}") from error
        if path.is_dir():
            raise StoreError(f"cannot write results to {path}: Is a directory")
        if path.suffix == ".jsonl":
            raise StoreError(
                f"{path} is a file of text by its name: a store is an SQLite file, by custom NAME.db"
            )
        if path.exists() and path.stat().st_size and not is_database(path) and path.suffix != ".db":
            raise StoreError(
                f"{path} is no store of runs: a store is an SQLite file, by custom NAME.db"
            )
        try:
            try:
                self._connection = self._opened()
            except DamagedError:
                self._set_aside()
                self._connection = self._opened()
        except (sqlite3.Error, DamagedError) as error:
            raise StoreError(f"cannot write results to {path}: {error}") from error
        self._closed = False
        _OPEN[path.resolve()] += 1

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=SECONDS_TO_WAIT, isolation_level=None)
        try:
            check(connection, self.path)
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> None:
        """Put what can be read of a damaged file into a new one, which takes its place; the old one
        is renamed."""
        with folder_lock(self.path):
            try:
                self._opened().close()
                return  # Another process has done it meanwhile.
            except DamagedError as error:
                why = error
            saved = salvaged(self.path)
            new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
            try:
                with Store(new) as store:
                    store.add_all(saved)
                place = f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
                for end in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        self.path.with_name(self.path.name + end).rename(
                            self.path.with_name(place + end)
                        )
                new.rename(self.path)
            except OSError as error:
                raise StoreError(
                    f"cannot write results to {self.path}: {error.strerror}"
                ) from error
            finally:
                for end in ("", "-wal", "-shm"):
                    new.with_name(new.name + end).unlink(missing_ok=True)
        warnings.warn(
            f"{self.path} is damaged ({why}): it was set aside as {self.path.with_name(place)}; {len(saved)} runs of "
            "it could be read and are carried over; what could not is there alone",
            stacklevel=4,
        )

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
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise StoreError(
                f"cannot write results to {self.path}: {error}; the runs written before are kept"
            ) from error

    def add(self, result: Result, once: bool = False) -> bool:
        """Store a run, and end its reservation; with `once` only if none of its key is stored. Says
        whether it did.

        On the disk when it returns. Errors: StoreError; nothing of the run is then stored.
        """
        with self._transaction() as connection:
            return _added(connection, result, once)

    def add_all(self, results: Iterable[Result], once: bool = False) -> int:
        """Store runs, all or none; returns how many. Errors: StoreError."""
        with self._transaction() as connection:
            return sum(_added(connection, result, once) for result in results)

    def try_to_write(self) -> None:
        """Write what is there already: a full disk is found before a training, not after. Errors:
        StoreError."""
        with self._transaction() as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def records(self, every: bool = False, **where: object) -> list[Record]:
        """Stored runs in order of storing: the last attempt of each key, or `every` one; `where`
        names columns and what is in them. Errors: StoreError."""
        known = (*FIELDS, "attempt", "status", "id")
        for name in where:
            if name not in known:
                raise StoreError(
                    f"runs have no column {name!r}{nearest(name, known)}; they have {', '.join(known)}"
                )
        # A group of studies is selected by its name, as everywhere.
        asked = (
            ["(study = ?1 OR substr(study, 1, length(?1) + 1) = ?1 || '/')"]
            if "study" in where
            else []
        )
        others = [name for name in where if name != "study"]
        asked += [f"{name} = ?{number}" for number, name in enumerate(others, start=1 + len(asked))]
        values = [where[name] for name in [*(["study"] if "study" in where else []), *others]]
        if not every:
            same = SAME.replace("?", "runs.%s") % FIELDS
            asked.append(f"attempt = (SELECT max(attempt) FROM runs AS other WHERE {same})")
        try:
            rows = self._connection.execute(
                f"SELECT id, attempt, time, result FROM runs WHERE {' AND '.join(asked) or '1'} ORDER BY id",
                values,
            ).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read results from {self.path}: {error}") from error
        found = (
            (number, attempt, time, parsed(text, f"{self.path}, run {number}"))
            for number, attempt, time, text in rows
        )
        return [
            Record(number, attempt, time, result)
            for number, attempt, time, result in found
            if result
        ]

    def runs(self, every: bool = False, **where: object) -> list[Result]:
        """The results of `records`."""
        return [record.result for record in self.records(every, **where)]

    def keys(self) -> set[Key]:
        """The key of every stored run. Errors: StoreError."""
        try:
            return {
                Key(*row) for row in self._connection.execute(f"SELECT DISTINCT {KEY} FROM runs")
            }
        except sqlite3.Error as error:
            raise StoreError(f"cannot read results from {self.path}: {error}") from error

    def reserve(self, key: Key, owner: Owner | None = None, *, again: bool = False) -> bool:
        """Take a run on for a process, this one unless it is named. False where it is stored
        already (unless it is made `again`), or another living process has taken it on."""
        mine, values = owner or Owner.this(), key.to_tuple()
        with self._transaction() as connection:
            if (
                not again
                and connection.execute(f"SELECT 1 FROM runs WHERE {SAME}", values).fetchone()
            ):
                return False
            row = connection.execute(
                f"SELECT host, pid, started FROM reservations WHERE {SAME}", values
            ).fetchone()
            if row and Owner(*row) != mine and Owner(*row).lives():
                return False
            marks = ", ".join("?" * (len(values) + len(mine)))
            connection.execute(
                f"INSERT OR REPLACE INTO reservations VALUES ({marks})", (*values, *mine)
            )
        return True

    def release(self, key: Key, owner: Owner | None = None) -> None:
        """Give a run up that a process has taken on, this one unless it is named."""
        with self._transaction() as connection:
            owned = (
                f"DELETE FROM reservations WHERE {SAME} AND host = ? AND pid = ? AND started = ?"
            )
            connection.execute(owned, (*key.to_tuple(), *(owner or Owner.this())))

    def reservations(self) -> dict[Key, Owner]:
        """The runs that are taken on, and by which processes. Errors: StoreError."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {KEY}, host, pid, started FROM reservations"
            ).fetchall()
        return {Key(*row[:-3]): Owner(*row[-3:]) for row in rows}

    def close(self) -> None:
        """End its use; once is enough."""
        if not self._closed:
            self._closed = True
            _OPEN[self.path.resolve()] -= 1
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _added(connection: sqlite3.Connection, result: Result, once: bool) -> bool:
    key = result.key.to_tuple()
    (last,) = connection.execute(f"SELECT max(attempt) FROM runs WHERE {SAME}", key).fetchone()
    connection.execute(f"DELETE FROM reservations WHERE {SAME}", key)
    if once and last:
        return False
    ended = result.provenance.get("time") or datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute(
        f"INSERT INTO runs ({KEY}, attempt, status, time, result) VALUES ({', '.join('?' * (len(key) + 4))})",
        (*key, (last or 0) + 1, result.status, str(ended), line_of(result)),
    )
    return True


def read_database(path: Path) -> list[Result]:
    """The last attempt of every run in a store, which is only read. Errors: StoreError."""
    try:
        try:
            rows = _rows(path, "mode=ro")
        except sqlite3.OperationalError:
            # To read takes a lock file beside it. Where none can be made, a copy is read, with what
            # its log holds.
            with tempfile.TemporaryDirectory() as folder:
                rows = _rows(copied(path, folder), "mode=rw")
    except DamagedError as error:
        raise StoreError(
            f"cannot read results from {path}: {error}; a command that writes to it sets it aside and saves what it can"
        ) from error
    except sqlite3.Error as error:
        raise StoreError(f"cannot read results from {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"cannot read results from {path}: {error.strerror}") from error
    # A later attempt takes the place of the one before, and its own in the order.
    last = {row[1:-1]: row for row in rows}
    found = (parsed(row[-1], f"{path}, run {row[0]}") for row in sorted(last.values()))
    return [result for result in found if result]


def _rows(path: Path, mode: str) -> list[tuple[Any, ...]]:
    uri = f"{path.resolve().as_uri()}?{mode}"
    with closing(sqlite3.connect(uri, uri=True, timeout=SECONDS_TO_WAIT)) as connection:
        check(connection, path)
        try:
            return connection.execute(f"SELECT id, {KEY}, result FROM runs ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                raise DamagedError(str(error)) from error
            raise
