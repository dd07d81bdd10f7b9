"""Full disks and read-only folders, with real limits of the operating system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from results import make_result as result
from test_database import HERE, PRELUDE, python

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.store import Store, append, check_writable, read


def test_file_size_limit_keeps_every_stored_run(tmp_path: Path) -> None:
    """The process runs with a limit on the size of files."""
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
    """Mount a file system of half a megabyte."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(tmp_path)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("left out: to mount a file system of its own takes root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_full_file_system_keeps_every_stored_run(small_disk: Path) -> None:
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


def test_read_only_file_system_can_be_read_but_not_written(
    small_disk: Path,
) -> None:
    path = small_disk / "runs.db"
    append(path, result(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for place in (path, small_disk / "other.db"):
        with pytest.raises(StoreError, match=f"cannot write results to {place}: "):
            check_writable(place)
        with pytest.raises(StoreError, match=f"cannot write results to {place}: "):
            append(place, result(2))
    assert [run.seed for run in read(path)] == [1]


def test_full_disk_is_reported_before_training(small_disk: Path) -> None:
    path = small_disk / "runs.db"
    append(path, result(1))
    # Another command has the store open, and with it the files that opening it takes.
    with Store(path):
        with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(1024))
        with pytest.raises(
            StoreError,
            match="cannot write results to .*: (database or disk is full|disk I/O error)",
        ):
            check_writable(path)
    assert [run.seed for run in read(path)] == [1]


# Permission bits do not bind root, unless it gives up the two capabilities that pass them over, and
# starts anew.
BOUND = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.mark.parametrize("log", [False, True], ids=["closed", "with a log"])
def test_read_only_folder_can_be_read_but_not_written(tmp_path: Path, log: bool) -> None:
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
from dlsys_bench.runs.store import check_writable, read
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
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, env=environment, check=False
    )
    tmp_path.chmod(0o755)
    assert done.stdout.split("\n") == [*["True"] * 4, "[1]", ""], done.stderr


@pytest.mark.parametrize("place", ["/dev/null/runs.db", ""])
def test_unwritable_place_raises(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreError, match="cannot write results to "):
        check_writable(Path(place) if place else tmp_path)
