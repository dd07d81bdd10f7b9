"""The store of runs: an SQLite file in which a run is safe as soon as it has ended.

It uses a write-ahead log with full synchronisation, so that a crash loses at most the run in
progress. Several processes of one machine may write at once. `schema` describes the tables.
"""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from dlsys_bench.errors import StoreError, count_of
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.damage import recover
from dlsys_bench.runs.store.lock import folder_lock
from dlsys_bench.runs.store.owner import Owner
from dlsys_bench.runs.store.reading import OPEN, StoredRun, is_database, parse_rows, select
from dlsys_bench.runs.store.schema import (
    KEY,
    MIGRATIONS,
    SAME,
    SECONDS_TO_WAIT,
    DamagedError,
    check,
    prepare,
)
from dlsys_bench.runs.store.text import line_of

SUFFIXES = ("", "-wal", "-shm")
"""The files of a store: the database, its write-ahead log, and the index of that log."""


class Store:
    """The runs in a file, which is created if necessary. A context manager, for one thread.

    A damaged file is renamed to NAME.damaged-TIME with a warning, and its readable runs are copied
    to a new file. Raises StoreError if the file cannot be written, was written by a later version,
    or is not a store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._check_path()
        try:
            try:
                self._connection = self._connect()
            except DamagedError:
                self._set_aside()
                self._connection = self._connect()
            if not path.exists():
                # Another process has deleted an empty store at this moment (`remove_if_empty`).
                self._connection.close()
                self._connection = self._connect()
        except (sqlite3.Error, DamagedError) as error:
            raise StoreError(f"cannot write results to {path}: {error}") from error
        self._closed = False
        OPEN[path.resolve()] += 1

    def _check_path(self) -> None:
        """Raise a StoreError if the path cannot be that of a store."""
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write results to {path}: {error.strerror}") from error
        if path.is_dir():
            raise StoreError(f"cannot write results to {path}: Is a directory")
        if path.suffix == ".jsonl":
            raise StoreError(
                f"{path} is a text file by its name: a store is an SQLite file, usually NAME.db"
            )
        if path.exists() and path.stat().st_size and not is_database(path) and path.suffix != ".db":
            raise StoreError(
                f"{path} is not a store of runs: a store is an SQLite file, usually NAME.db"
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=SECONDS_TO_WAIT, isolation_level=None)
        try:
            check(connection, self.path)
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> None:
        """Rename a damaged file, and put a new one with its readable runs in its place."""
        with folder_lock(self.path):
            try:
                self._connect().close()
                return  # Another process has replaced it meanwhile.
            except DamagedError as error:
                reason = error
            saved = recover(self.path)
            aside = f"{self.path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            self._replace_by(saved, aside)
        warnings.warn(
            f"{self.path} is damaged ({reason}): it was set aside as "
            f"{self.path.with_name(aside)}; {count_of(len(saved), 'run')} could be read and "
            f"{'was' if len(saved) == 1 else 'were'} copied; the others remain only in that file",
            stacklevel=4,
        )

    def _replace_by(self, runs: Iterable[Result], aside: str) -> None:
        """Write runs to a new file, rename the old one, and give the new one its name."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            with Store(new) as store:
                store.add_all(runs)
            for suffix in SUFFIXES:
                with suppress(FileNotFoundError):
                    old = self.path.with_name(self.path.name + suffix)
                    old.rename(self.path.with_name(aside + suffix))
            new.rename(self.path)
        except OSError as error:
            raise StoreError(f"cannot write results to {self.path}: {error.strerror}") from error
        finally:
            for suffix in SUFFIXES:
                new.with_name(new.name + suffix).unlink(missing_ok=True)

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
        """Store a run and end its reservation; with `once`, only if its key has no run yet.

        The run is on disk when this returns. Returns True if it was stored. Raises StoreError, in
        which case nothing of the run is stored.
        """
        with self._transaction() as connection:
            return _add(connection, result, once)

    def add_all(self, results: Iterable[Result], once: bool = False) -> int:
        """Store runs, all or none, and return their number. Raises StoreError."""
        with self._transaction() as connection:
            return sum(_add(connection, result, once) for result in results)

    def try_to_write(self) -> None:
        """Write without changing anything, to find a full disk before a training starts.

        Raises StoreError.
        """
        with self._transaction() as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def stored_runs(self, every: bool = False, **where: object) -> list[StoredRun]:
        """Return the last attempt of each key, or `every` attempt, in order of storing.

        `where` selects by the values of columns. Raises StoreError.
        """
        query, values = select(every, where)
        try:
            rows = self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read results from {self.path}: {error}") from error
        return parse_rows(rows, self.path)

    def runs(self, every: bool = False, **where: object) -> list[Result]:
        """Return the results of `stored_runs`."""
        return [stored.result for stored in self.stored_runs(every, **where)]

    def keys(self) -> set[Key]:
        """Return the key of every stored run. Raises StoreError."""
        try:
            return {
                Key(*row) for row in self._connection.execute(f"SELECT DISTINCT {KEY} FROM runs")
            }
        except sqlite3.Error as error:
            raise StoreError(f"cannot read results from {self.path}: {error}") from error

    def reserve(self, key: Key, owner: Owner | None = None, *, again: bool = False) -> bool:
        """Reserve a run for a process, by default this one.

        Returns False if the run is stored already (unless it is to be made `again`), or is reserved
        by another process that is alive.
        """
        asking, values = owner or Owner.this(), key.to_tuple()
        with self._transaction() as connection:
            stored = f"SELECT 1 FROM runs WHERE {SAME}"
            if not again and connection.execute(stored, values).fetchone():
                return False
            row = connection.execute(
                f"SELECT host, pid, started FROM reservations WHERE {SAME}", values
            ).fetchone()
            if row and Owner(*row) != asking and Owner(*row).lives():
                return False
            marks = ", ".join("?" * (len(values) + len(asking)))
            connection.execute(
                f"INSERT OR REPLACE INTO reservations VALUES ({marks})", (*values, *asking)
            )
        return True

    def release(self, key: Key, owner: Owner | None = None) -> None:
        """End the reservation of a run by a process, by default this one."""
        with self._transaction() as connection:
            connection.execute(
                f"DELETE FROM reservations WHERE {SAME} AND host = ? AND pid = ? AND started = ?",
                (*key.to_tuple(), *(owner or Owner.this())),
            )

    def reservations(self) -> dict[Key, Owner]:
        """Return the reserved runs and the processes that reserved them. Raises StoreError."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {KEY}, host, pid, started FROM reservations"
            ).fetchall()
        return {Key(*row[:-3]): Owner(*row[-3:]) for row in rows}

    def remove_if_empty(self) -> bool:
        """Close the store and delete its file, if it has neither runs nor reservations and no other
        process has it open. Returns True if it was deleted."""
        try:
            # Without a write-ahead log, which needs that no other connection is open.
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("BEGIN EXCLUSIVE")
            counts = [
                self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
                for table in ("runs", "reservations")
            ]
        except sqlite3.Error:
            return False
        empty = counts == [(0,), (0,)]
        if empty:
            self.path.unlink()
        self.close()
        return empty

    def close(self) -> None:
        """Close the store. Closing it again has no effect."""
        if not self._closed:
            self._closed = True
            OPEN[self.path.resolve()] -= 1
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


def _add(connection: sqlite3.Connection, result: Result, once: bool) -> bool:
    """Store a run within a transaction, and return True if it was stored."""
    key = result.key.to_tuple()
    (last,) = connection.execute(f"SELECT max(attempt) FROM runs WHERE {SAME}", key).fetchone()
    connection.execute(f"DELETE FROM reservations WHERE {SAME}", key)
    if once and last:
        return False
    ended = result.provenance.get("time") or datetime.now(UTC).isoformat(timespec="seconds")
    marks = ", ".join("?" * (len(key) + 4))
    connection.execute(
        f"INSERT INTO runs ({KEY}, attempt, status, time, result) VALUES ({marks})",
        (*key, (last or 0) + 1, result.status, str(ended), line_of(result)),
    )
    return True
