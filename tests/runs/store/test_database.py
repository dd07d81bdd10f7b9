"""The store of runs: stored runs survive the process, and several processes share it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from command_line import enter, invoke
from results import changed
from results import make_result as result

from dlsys_bench.errors import StoreError, StoreWarning
from dlsys_bench.runs.store import Store, append, check_writable, line_of, read
from dlsys_bench.runs.store.reading import is_database
from dlsys_bench.runs.store.schema import MIGRATIONS, check

HERE = Path(__file__).parent


def python(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a script in a new process, after the imports of PRELUDE."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        **options,
    )


PRELUDE = """
import sys
from contextlib import closing
from pathlib import Path
from results import make_result as result
from dlsys_bench.runs.store import Store, append
path = Path(sys.argv[1])
"""


def test_last_attempts_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.db"
    with Store(path) as store:
        assert store.add(result(1))
        assert store.add(result(2, status="diverged", reason="NaN", history=[]))
        assert store.add(result(1, seconds=3.0))
        assert not store.add(result(2), once=True)
        assert store.add(result(3), once=True)
        assert [(run.seed, run.seconds) for run in store.runs()] == [(2, 2.0), (1, 3.0), (3, 2.0)]
        assert [(r.number, r.attempt, r.result.seed) for r in store.stored_runs(every=True)] == [
            (1, 1, 1),
            (2, 1, 2),
            (3, 2, 1),
            (4, 1, 3),
        ]
        assert [run.seed for run in store.runs(status="diverged")] == [2]
        assert store.runs(engine="torch") == []
        assert store.keys() == {result(seed).key for seed in (1, 2, 3)}
        with pytest.raises(StoreError, match=r"no column 'egnine' \(did you mean \"engine\"\?\)"):
            store.runs(egnine="torch")
    assert [(run.seed, run.seconds) for run in read(path)] == [(2, 2.0), (1, 3.0), (3, 2.0)]


@pytest.mark.parametrize(
    "change",
    [
        {"study": "s"},
        {"arm": "a"},
        {"dataset": "d"},
        {"tier": "full"},
        {"engine": "torch"},
        {"device": "cuda"},
        {"dtype": "float64"},
        {"seed": 9},
        {"protocol": "q"},
    ],
)
def test_keys_that_differ_in_one_field_are_different_runs(
    tmp_path: Path, change: dict[str, object]
) -> None:
    with Store(tmp_path / "runs.db") as store:
        assert store.add(result(1), once=True)
        assert store.add(changed(result(1), **change), once=True)
        assert len(store.runs()) == 2


def test_suffix_selects_text_or_store(tmp_path: Path) -> None:
    for name in ("runs.jsonl", "runs.db", "runs"):
        check_writable(tmp_path / name)
        append(tmp_path / name, result(1))
        append(tmp_path / name, result(2))
        assert [run.seed for run in read(tmp_path / name)] == [1, 2]
    assert (tmp_path / "runs.jsonl").read_text().startswith('{"study"')
    assert (tmp_path / "runs.db").read_bytes().startswith(b"SQLite format 3")


def test_killed_process_loses_no_stored_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    script = """
store = Store(path)
for seed in range(100_000):
    store.add(result(seed))
    print(seed, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )
    assert process.stdout is not None
    while process.stdout.readline() != "40\n":
        pass
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    said = [40, *(int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n"))]
    kept = [run.seed for run in read(path)]
    assert kept == list(range(len(kept)))
    assert len(kept) >= said[-1] + 1
    with Store(path) as store:
        assert store.add(result(-1))


@pytest.mark.parametrize("processes", [2, 4])
def test_concurrent_processes_lose_nothing_and_store_nothing_twice(
    tmp_path: Path, processes: int
) -> None:
    path = tmp_path / "runs.db"
    script = """
store = Store(path)
print(sum(store.add(result(seed), once=True) for seed in range(40)))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script, str(path)],
            stdout=subprocess.PIPE,
            env=environment,
        )
        for _ in range(processes)
    ]
    stored = [int(process.communicate(timeout=900)[0]) for process in running]
    assert sum(stored) == 40
    with Store(path) as store:
        assert sorted(run.seed for run in store.runs(every=True)) == list(range(40))


def test_reading_an_open_store_keeps_its_locks(tmp_path: Path) -> None:
    """Closing any handle of a file releases all locks of the process on it."""
    path = tmp_path / "runs.db"
    with Store(path) as store:
        store.add(result(1))
        assert [run.seed for run in read(path)] == [1]
        check_writable(path)
        assert is_database(path)
        python("append(path, result(2))", path)
        store.add(result(3))
        # Seen by others at once, not only when this one ends well.
        seen = python(
            "from dlsys_bench.runs.store import read\nprint([run.seed for run in read(path)])", path
        )
        assert seen.stdout == "[1, 2, 3]\n"


def test_runs_are_selected_by_group_and_column(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.db") as store:
        for study in ("g/one", "g/two", "gone", "other"):
            for seed in (1, 2):
                store.add(result(seed, study=study))
        assert [run.key.study for run in store.runs(study="g", seed=1)] == ["g/one", "g/two"]
        assert [run.key.study for run in store.runs(seed=2, study="gone", every=True)] == ["gone"]
        assert store.runs(attempt=2) == []


def test_values_that_a_store_cannot_hold_raise(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.db") as store:
        with pytest.raises(StoreError, match="cannot write results to .* too large"):
            store.add(result(2**80))
        assert store.add(result(1))
    with pytest.raises(StoreError, match="is a text file by its name"):
        Store(tmp_path / "runs.jsonl")


def test_store_of_version_1_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Store(path) as store:
        store.add(result(1))
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE reservations; PRAGMA user_version = 1;")
    connection.close()
    assert [run.seed for run in read(path)] == [1]
    with Store(path) as store:
        assert store.reserve(result(2).key)
        assert [run.seed for run in store.runs()] == [1]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_later_versions_and_foreign_files_raise_and_are_unchanged(tmp_path: Path) -> None:
    later, other, text = tmp_path / "later.db", tmp_path / "other.db", tmp_path / "notes.txt"
    Store(later).close()
    for path, statement in (
        (later, "PRAGMA user_version = 99"),
        (other, "CREATE TABLE songs (name TEXT)"),
    ):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()
    text.write_text("my notes\n")
    for path, said in (
        (later, "has version 99 of the store, this program knows 2: update it"),
        (other, "is another program's database"),
        (text, "is not a store of runs"),
    ):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=said):
            append(path, result(1))
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("queries", [1, 2, 3])
def test_a_store_may_be_created_while_it_is_checked(tmp_path: Path, queries: int) -> None:
    """Another process creates the tables after some of the queries of the check."""
    path, made = tmp_path / "runs.db", list[str]()

    class Interrupted(sqlite3.Connection):
        def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
            if len(made) == queries:
                append(path, result(1))
            made.append(query)
            return super().execute(query, *values)

    with closing(sqlite3.connect(path, factory=Interrupted)) as connection:
        check(connection, path)
    assert len(read(path)) == 1


def test_commits_are_synchronised_with_the_disk(tmp_path: Path) -> None:
    """Each commit waits for the disk, so that a loss of power loses nothing."""
    with Store(tmp_path / "runs.db") as store:
        settings = [
            store._connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("synchronous", "journal_mode")
        ]
    assert settings == [(2,), ("wal",)]


def test_runs_commands_list_show_export_and_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    for run in (result(1), result(2, engine="torch"), result(2, engine="torch", seconds=9.0)):
        append(tmp_path / "reports" / "runs.db", run)
    assert "3 runs in" in invoke("runs", "list", "--every").stdout
    (listed,) = invoke("runs", "list", "--engine", "torch", "--json").stdout.splitlines()
    found = json.loads(listed)
    assert (found["number"], found["attempt"], found["seed"]) == (3, 2, 2)
    assert json.loads(invoke("runs", "show", "3").stdout)["seconds"] == 9.0
    assert "has no run 7" in invoke("runs", "show", "7", code=2).stderr
    assert len(invoke("runs", "export").stdout.splitlines()) == 2
    assert "2 runs written to all.jsonl" in invoke("runs", "export", "all.jsonl").stderr
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write("damaged\n")
        file.write(line_of(result(1, seconds=4.0)))
    with pytest.warns(StoreWarning, match="all.jsonl, line 3 is not a run"):
        said = invoke("runs", "import", "all.jsonl", "reports/runs.db", "--store", "new.db").stderr
    assert "all.jsonl: 2 runs, 2 added, 0 already stored, 1 set aside in all.jsonl.rejected" in said
    assert "reports/runs.db: 2 runs, 0 added, 2 already stored" in said
    assert [run.seconds for run in read(tmp_path / "new.db")] == [9.0, 4.0]
    assert "no store missing.db" in invoke("runs", "list", "--store", "missing.db", code=2).stderr


def test_a_store_that_is_being_created_has_no_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        assert path.stat().st_size
        assert read(path) == []


def test_only_an_unused_store_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store, other = Store(path), Store(path)
    assert not store.remove_if_empty()
    other.close()
    assert store.reserve(result(1).key)
    assert not store.remove_if_empty()
    store.close()
    store = Store(path)
    store.release(result(1).key)
    assert store.remove_if_empty()
    assert list(tmp_path.iterdir()) == []
    with Store(path) as store:
        store.add(result(1))
        assert not store.remove_if_empty()
    assert [run.seed for run in read(path)] == [1]
