"""Damaged stores are set aside, and their readable runs are kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from results import make_result as result
from test_database import HERE, PRELUDE

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.store import Store, append, read


def damaged(path: Path, how: str) -> None:
    """Write a store of 60 runs, and damage it."""
    with Store(path) as store:
        for seed in range(60):
            store.add(result(seed, reason="x" * 2000))
    whole = bytearray(path.read_bytes())
    pages = len(whole) // 4096
    match how:
        case "header":
            whole[:100] = bytes(100)
        case "first page":
            whole[:4096] = os.urandom(4096)
        case "page":
            whole[4096 * (pages // 2) : 4096 * (pages // 2 + 1)] = os.urandom(4096)
        case "cut":
            del whole[len(whole) // 2 :]
        case "text":
            whole = bytearray(b"not a database at all\n" * 300)
    path.write_bytes(bytes(whole))


@pytest.mark.parametrize(
    ("how", "least", "most"),
    [("header", 60, 60), ("first page", 60, 60), ("page", 40, 59), ("cut", 15, 59), ("text", 0, 0)],
)
def test_damaged_store_is_set_aside_and_its_readable_runs_are_kept(
    tmp_path: Path, how: str, least: int, most: int
) -> None:
    path = tmp_path / "runs.db"
    damaged(path, how)
    before = path.read_bytes()
    with pytest.warns(
        UserWarning, match=r"runs.db is damaged .*: it was set aside as .*; \d+ runs could be read"
    ):
        append(path, result(1000))
    kept = [run.seed for run in read(path)]
    assert kept[-1] == 1000
    assert least <= len(kept) - 1 <= most
    assert set(kept) <= {*range(60), 1000}
    (aside,) = [
        file
        for file in tmp_path.iterdir()
        if "damaged" in file.name and not file.name.endswith(("wal", "shm"))
    ]
    assert aside.read_bytes()[:4096] == before[:4096]


def test_concurrent_processes_set_a_damaged_store_aside_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    damaged(path, "header")
    script = """
import warnings
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("always")
    append(path, result(1000 + int(sys.argv[2])))
print(len(found))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(path), str(number)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for number in range(4)
    ]
    assert sum(int(process.communicate(timeout=900)[0]) for process in running) == 1
    assert sorted(run.seed for run in read(path)) == [*range(60), *range(1000, 1004)]
    assert len([file for file in tmp_path.iterdir() if file.name.endswith("Z")]) == 1
    assert not list(tmp_path.glob("*.new*"))


def test_damaged_run_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for seed in range(3):
        append(path, result(seed))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET result = substr(result, 1, 40) WHERE id = 2")
    connection.commit()
    connection.close()
    with pytest.warns(UserWarning, match=r"runs.db, run 2 is not a run and was set aside"):
        assert [run.seed for run in read(path)] == [0, 2]
    with Store(path) as store, pytest.warns(UserWarning, match=r"run 2 is not a run"):
        assert [run.seed for run in store.runs()] == [0, 2]


def test_reading_a_damaged_store_raises_and_does_not_change_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    damaged(path, "page")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"cannot read results from .*runs.db: .*sets it aside"):
        read(path)
    assert path.read_bytes() == before


def test_a_store_without_its_table_is_not_read_as_empty(tmp_path: Path) -> None:
    """An error of SQLite that is no damage of the file names the file as well."""
    path = tmp_path / "runs.db"
    with Store(path) as store:
        store.add(result(0))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE runs")
    with pytest.raises(StoreError, match=rf"{path}: no such table: runs"):
        read(path)
