"""The run store: what was said to be stored is there, whatever happens to the process, the file or the disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dlsys_bench.errors import StoreError
from dlsys_bench.result import Epoch, Result
from dlsys_bench.store import Store, append, check_writable, key_of, line_of, read
from dlsys_bench.store.database import is_database
from dlsys_bench.store.owner import Owner
from dlsys_bench.store.schema import MIGRATIONS

HERE = Path(__file__).parent


def result(seed: int = 1, **changes: object) -> Result:
    history = [Epoch(1, 10, 0.5, 1.25, 0.5, 1.2, 0.6, None, None, 1.1, 0.7)]
    made = Result("study", "arm", "digits", "quick", "numpy", "cpu", "float32", "keras", seed, "p", {}, history, 2.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def python(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, with `result` and the store at hand."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}, **options,  # type: ignore[call-overload]
    )  # fmt: skip


PRELUDE = """
import sys
from pathlib import Path
from test_database import result
from dlsys_bench.store import Store, append, key_of
path = Path(sys.argv[1])
"""


def test_runs_are_read_back_in_order_the_last_attempt_of_each(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.db"
    with Store(path) as store:
        assert store.add(result(1))
        assert store.add(result(2, status="diverged", reason="NaN", history=[]))
        assert store.add(result(1, seconds=3.0))
        assert not store.add(result(2), once=True)
        assert store.add(result(3), once=True)
        assert [(run.seed, run.seconds) for run in store.runs()] == [(2, 2.0), (1, 3.0), (3, 2.0)]
        assert [(r.number, r.attempt, r.result.seed) for r in store.records(every=True)] == [
            (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 1, 3),
        ]  # fmt: skip
        assert [run.seed for run in store.runs(status="diverged")] == [2]
        assert store.runs(engine="torch") == []
        assert store.keys() == {key_of(result(seed)) for seed in (1, 2, 3)}
        with pytest.raises(StoreError, match=r"no column 'egnine' \(did you mean \"engine\"\?\)"):
            store.runs(egnine="torch")
    assert [(run.seed, run.seconds) for run in read(path)] == [(2, 2.0), (1, 3.0), (3, 2.0)]


@pytest.mark.parametrize(
    "change",
    [{"study": "s"}, {"arm": "a"}, {"dataset": "d"}, {"tier": "full"}, {"engine": "torch"}, {"device": "cuda"},
     {"dtype": "float64"}, {"seed": 9}, {"protocol": "q"}],
)  # fmt: skip
def test_runs_that_differ_in_any_part_of_the_key_are_two(tmp_path: Path, change: dict[str, object]) -> None:
    with Store(tmp_path / "runs.db") as store:
        assert store.add(result(1), once=True)
        assert store.add(replace(result(1), **change), once=True)  # type: ignore[arg-type]
        assert len(store.runs()) == 2


def test_a_file_is_text_or_a_store_by_its_name(tmp_path: Path) -> None:
    for name in ("runs.jsonl", "runs.db", "runs"):
        check_writable(tmp_path / name)
        append(tmp_path / name, result(1))
        append(tmp_path / name, result(2))
        assert [run.seed for run in read(tmp_path / name)] == [1, 2]
    assert (tmp_path / "runs.jsonl").read_text().startswith('{"study"')
    assert (tmp_path / "runs.db").read_bytes().startswith(b"SQLite format 3")


def test_a_process_that_is_killed_loses_no_run_that_it_said_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    script = (
        "store = Store(path)\nfor seed in range(100_000):\n    store.add(result(seed))\n    print(seed, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )  # fmt: skip
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
def test_processes_that_write_at_once_lose_nothing_and_store_nothing_twice(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "runs.db"
    script = "store = Store(path)\nprint(sum(store.add(result(seed), once=True) for seed in range(40)))\n"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    running = [
        subprocess.Popen([sys.executable, "-c", PRELUDE + script, str(path)], stdout=subprocess.PIPE, env=environment)
        for _ in range(processes)
    ]
    stored = [int(process.communicate(timeout=120)[0]) for process in running]
    assert sum(stored) == 40
    with Store(path) as store:
        assert sorted(run.seed for run in store.runs(every=True)) == list(range(40))


def test_a_full_disk_leaves_every_run_that_was_stored(tmp_path: Path) -> None:
    """For real: the process may make no file longer than so many bytes."""
    path = tmp_path / "runs.db"
    script = """
import resource, signal
from dlsys_bench.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    for seed in range(10_000):
        append(path, result(seed))
        print(seed)
except StoreError as error:
    print(error)
"""
    *stored, said = python(script, path).stdout.splitlines()
    assert "cannot write results to" in said
    assert "the runs written before are kept" in said
    assert [run.seed for run in read(path)] == list(map(int, stored))
    assert len(stored) > 20
    append(path, result(-1))
    assert len(read(path)) == len(stored) + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("left out: to mount a file system of its own takes root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_file_system_that_is_full_leaves_every_run_that_was_stored(small_disk: Path) -> None:
    stored, said = 0, ""
    while not said:
        try:
            append(small_disk / "runs.db", result(stored, reason="x" * 4000))
            stored += 1
        except StoreError as error:
            said = str(error)
    assert "the runs written before are kept" in said
    assert stored > 10
    assert len(read(small_disk / "runs.db")) == stored


def test_a_file_system_that_cannot_be_written_is_said_and_can_still_be_read(small_disk: Path) -> None:
    path = small_disk / "runs.db"
    append(path, result(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for place in (path, small_disk / "other.db"):
        with pytest.raises(StoreError, match=f"cannot write results to {place}: "):
            check_writable(place)
        with pytest.raises(StoreError, match=f"cannot write results to {place}: "):
            append(place, result(2))
    assert [run.seed for run in read(path)] == [1]


def test_a_full_disk_is_found_before_a_training(small_disk: Path) -> None:
    path = small_disk / "runs.db"
    append(path, result(1))
    # Another command has the store open, and with it the files that opening it takes.
    with Store(path):
        with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1024))
        with pytest.raises(StoreError, match="cannot write results to .*: (database or disk is full|disk I/O error)"):
            check_writable(path)
    assert [run.seed for run in read(path)] == [1]


# Permission bits do not bind root, unless it gives up the two capabilities that pass them over, and starts anew.
BOUND = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.mark.parametrize("log", [False, True], ids=["closed", "with a log"])
def test_a_folder_that_cannot_be_written_is_said_and_can_still_be_read(tmp_path: Path, log: bool) -> None:
    path = tmp_path / "runs.db"
    if log:
        # A process that was killed leaves its last runs in the log.
        python("store = Store(path)\nstore.add(result(1))\nimport os\nos._exit(0)", path)
        assert (tmp_path / "runs.db-wal").stat().st_size
        (tmp_path / "runs.db-shm").unlink()
    else:
        append(path, result(1))
    for file in tmp_path.iterdir():
        file.chmod(0o444)
    tmp_path.chmod(0o555)
    script = """
from dlsys_bench.errors import StoreError
from dlsys_bench.store import check_writable, read
for act in (check_writable, lambda path: append(path, result(2))):
    for place in (path, path.with_name("other.db")):
        try:
            act(place)
        except StoreError as error:
            print("cannot write results to" in str(error))
print([run.seed for run in read(path)])
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    command = [sys.executable, "-c", BOUND, PRELUDE + script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    tmp_path.chmod(0o755)
    assert done.stdout.split("\n") == [*["True"] * 4, "[1]", ""], done.stderr


@pytest.mark.parametrize("place", ["/dev/null/runs.db", ""])
def test_a_place_that_can_hold_no_file_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreError, match="cannot write results to "):
        check_writable(Path(place) if place else tmp_path)


def damaged(path: Path, how: str) -> None:
    """A store of 60 runs, broken."""
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
def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_carried_over(
    tmp_path: Path, how: str, least: int, most: int
) -> None:  # fmt: skip
    path = tmp_path / "runs.db"
    damaged(path, how)
    before = path.read_bytes()
    with pytest.warns(UserWarning, match=r"runs.db is damaged .*: it was set aside as .*; \d+ runs of it could"):
        append(path, result(1000))
    kept = [run.seed for run in read(path)]
    assert kept[-1] == 1000
    assert least <= len(kept) - 1 <= most
    assert set(kept) <= {*range(60), 1000}
    (aside,) = [
        file for file in tmp_path.iterdir() if "damaged" in file.name and not file.name.endswith(("wal", "shm"))
    ]
    assert aside.read_bytes()[:4096] == before[:4096]


def test_processes_that_find_a_damaged_file_at_once_set_it_aside_once(tmp_path: Path) -> None:
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
        subprocess.Popen([sys.executable, "-c", PRELUDE + script, str(path), str(number)], stdout=subprocess.PIPE,
                         env=environment)
        for number in range(4)
    ]  # fmt: skip
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 1
    assert sorted(run.seed for run in read(path)) == [*range(60), *range(1000, 1004)]
    assert len([file for file in tmp_path.iterdir() if file.name.endswith("Z")]) == 1
    assert not list(tmp_path.glob("*.new*"))


def test_a_run_whose_text_is_damaged_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for seed in range(3):
        append(path, result(seed))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET result = substr(result, 1, 40) WHERE id = 2")
    connection.commit()
    connection.close()
    with pytest.warns(UserWarning, match=r"runs.db, run 2 cannot be read and was left out"):
        assert [run.seed for run in read(path)] == [0, 2]
    with Store(path) as store, pytest.warns(UserWarning, match=r"run 2 cannot be read"):
        assert [run.seed for run in store.runs()] == [0, 2]


def test_to_read_a_store_that_is_open_takes_nothing_from_it(tmp_path: Path) -> None:
    """A file that a process opens and closes loses all locks of that process: another would then end the log."""
    path = tmp_path / "runs.db"
    with Store(path) as store:
        store.add(result(1))
        assert [run.seed for run in read(path)] == [1]
        check_writable(path)
        assert is_database(path)
        python("append(path, result(2))", path)
        store.add(result(3))
        # Seen by others at once, not only when this one ends well.
        seen = python("from dlsys_bench.store import read\nprint([run.seed for run in read(path)])", path)
        assert seen.stdout == "[1, 2, 3]\n"


def test_runs_are_chosen_by_group_and_by_column(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.db") as store:
        for study in ("g/one", "g/two", "gone", "other"):
            for seed in (1, 2):
                store.add(result(seed, study=study))
        assert [run.study for run in store.runs(study="g", seed=1)] == ["g/one", "g/two"]
        assert [run.study for run in store.runs(seed=2, study="gone", every=True)] == ["gone"]
        assert store.runs(attempt=2) == []


def test_what_a_store_cannot_hold_is_said(tmp_path: Path) -> None:
    with Store(tmp_path / "runs.db") as store:
        with pytest.raises(StoreError, match="cannot write results to .* too large"):
            store.add(result(2**80))
        assert store.add(result(1))
    with pytest.raises(StoreError, match="is a file of text by its name"):
        Store(tmp_path / "runs.jsonl")


def test_a_damaged_file_that_is_only_read_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    damaged(path, "page")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"cannot read results from .*runs.db: .*sets it aside"):
        read(path)
    assert path.read_bytes() == before


def test_a_store_of_version_1_is_brought_up_with_nothing_lost(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Store(path) as store:
        store.add(result(1))
    connection = sqlite3.connect(path)
    connection.executescript("DROP TABLE reservations; PRAGMA user_version = 1;")
    connection.close()
    assert [run.seed for run in read(path)] == [1]
    with Store(path) as store:
        assert store.reserve(key_of(result(2)))
        assert [run.seed for run in store.runs()] == [1]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()


def test_a_later_version_and_another_programs_file_are_refused_untouched(tmp_path: Path) -> None:
    later, other, text = tmp_path / "later.db", tmp_path / "other.db", tmp_path / "notes.txt"
    Store(later).close()
    for path, statement in ((later, "PRAGMA user_version = 99"), (other, "CREATE TABLE songs (name TEXT)")):
        connection = sqlite3.connect(path)
        connection.execute(statement)
        connection.close()
    text.write_text("my notes\n")
    for path, said in (
        (later, "has version 99 of the store, this program knows 2: update it"),
        (other, "is another program's database"),
        (text, "is no store of runs"),
    ):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=said):
            append(path, result(1))
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_run_that_is_stored_is_on_the_disk(tmp_path: Path) -> None:
    """What a loss of power would show: each commit waits for the disk."""
    with Store(tmp_path / "runs.db") as store:
        settings = [store._connection.execute(f"PRAGMA {name}").fetchone() for name in ("synchronous", "journal_mode")]
    assert settings == [(2,), ("wal",)]


def test_a_run_is_taken_on_by_one_process_at_a_time(tmp_path: Path) -> None:
    path, key = tmp_path / "runs.db", key_of(result(1))
    with Store(path) as store:
        assert store.reserve(key)
        assert store.reserve(key)
        assert python("print(Store(path).reserve(key_of(result(1))))", path).stdout == "False\n"
        store.release(key)
        assert python("print(Store(path).reserve(key_of(result(1))))", path).stdout == "True\n"
        # That process has ended: its reservation is nobody's.
        assert store.reserve(key)
        assert store.reservations() == {key: Owner.this()}
        store.add(result(1))
        assert store.reservations() == {}
        assert not store.reserve(key)
        assert store.reserve(key, again=True)


def test_the_reservation_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path, key = tmp_path / "runs.db", key_of(result(1))
    script = "import time\nprint(Store(path).reserve(key_of(result(1))), flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    with Store(path) as store:
        assert not store.reserve(key)
        process.kill()
        time.sleep(0.2)
        # Not yet waited for, it is a zombie; waited for, it is gone.
        assert store.reserve(key)
        process.communicate()


def test_an_owner_is_told_from_a_later_process_of_its_number() -> None:
    this = Owner.this()
    assert this.lives()
    assert not this._replace(started=this.started - 100).lives()
    assert not this._replace(pid=2**22 + 1).lives()
    assert this._replace(host="elsewhere", pid=2**22 + 1).lives()


def call(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "dlsys_bench", "runs", *arguments], cwd=folder, capture_output=True, text=True,
        timeout=120, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_the_command_line_lists_shows_exports_and_imports(tmp_path: Path) -> None:
    for run in (result(1), result(2, engine="torch"), result(2, engine="torch", seconds=9.0)):
        append(tmp_path / "reports" / "runs.db", run)
    assert "3 runs in" in call(tmp_path, "list", "--every").stdout
    (listed,) = call(tmp_path, "list", "--engine", "torch", "--json").stdout.splitlines()
    found = json.loads(listed)
    assert (found["number"], found["attempt"], found["seed"]) == (3, 2, 2)
    assert json.loads(call(tmp_path, "show", "3").stdout)["seconds"] == 9.0
    assert "has no run 7" in call(tmp_path, "show", "7", code=2).stderr
    assert len(call(tmp_path, "export").stdout.splitlines()) == 2
    assert "2 runs written to all.jsonl" in call(tmp_path, "export", "all.jsonl").stderr
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write("damaged\n")
        file.write(line_of(result(1, seconds=4.0)))
    said = call(tmp_path, "import", "all.jsonl", "reports/runs.db", "--store", "new.db").stderr
    assert "all.jsonl, line 3 is not a run" in said
    assert "all.jsonl: 3 runs, 2 stored, 1 were there already" in said
    assert "reports/runs.db: 2 runs, 0 stored, 2 were there already" in said
    assert [run.seconds for run in read(tmp_path / "new.db")] == [4.0, 9.0]
    assert "no store missing.db" in call(tmp_path, "list", "--store", "missing.db", code=2).stderr
