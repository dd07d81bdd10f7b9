"""Merging into reference files: complete, in order, and without duplicates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from results import make_result

import dlsys_bench
from dlsys_bench.errors import StoreError, StoreWarning
from dlsys_bench.runs.calibration.reference import merge
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import append, read

REFERENCE = Path(dlsys_bench.__file__).parent.parent / "reports" / "reference"


def result(arm: str, seed: int, **changes: object) -> Result:
    return make_result(seed, arm=arm, history=[], **changes)


def test_merged_runs_are_ordered_and_unique(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "study.jsonl"
    assert merge(path, [result("a", 1), result("b", 0)], ("b", "a")) == 2
    assert (
        merge(path, [result("a", 0), result("b", 0, seconds=9.0), result("gone", 0)], ("b", "a"))
        == 2
    )
    assert [(run.key.arm, run.seed) for run in read(path)] == [
        ("b", 0),
        ("a", 0),
        ("a", 1),
        ("gone", 0),
    ]
    assert read(path)[0].seconds == 2.0
    assert merge(path, [result("b", 0, seconds=9.0)], ("b", "a"), again=True) == 0
    assert read(path)[0].seconds == 9.0
    assert [file.name for file in path.parent.iterdir()] == ["study.jsonl"]


def test_runs_of_another_protocol_or_engine_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    merge(path, [result("a", 0, protocol="old"), result("a", 0, engine="torch")])
    merge(path, [result("a", 0)])
    assert len(read(path)) == 3


def test_merging_nothing_new_does_not_write(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    merge(path, [result("a", 0)])
    before = path.stat()
    assert merge(path, [result("a", 0)]) == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    merge(tmp_path / "none.jsonl", [])
    assert not (tmp_path / "none.jsonl").exists()


def test_files_with_damaged_lines_are_copied_first(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    append(path, result("a", 0))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40] + b"\n")
    with (
        pytest.warns(StoreWarning, match=r"study.jsonl, line 2 is not a run"),
        pytest.warns(StoreWarning, match=r"study.jsonl: the file as it was is .*damaged"),
    ):
        merge(path, [result("a", 1)])
    assert [run.seed for run in read(path)] == [0, 1]
    (aside,) = tmp_path.glob("study.jsonl.damaged-*")
    assert aside.read_bytes() == whole + whole[:40] + b"\n"


def test_full_disk_keeps_the_previous_file(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    merge(path, [result("a", 0)])
    before = path.read_bytes()
    script = f"""
import resource, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from test_merge import merge, result, StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    merge(Path({str(path)!r}), [result("a", seed) for seed in range(9)])
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "the previous file is kept" in done.stdout
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["study.jsonl"]


def test_concurrent_merges_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
from test_merge import merge, result
for seed in range(20):
    merge(Path({str(path)!r}), [result(sys.argv[1], seed)], ("a", "b", "c"))
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, arm]) for arm in "abc"]
    assert [process.wait(timeout=900) for process in processes] == [0, 0, 0]
    assert [(run.key.arm, run.seed) for run in read(path)] == [
        (arm, seed) for arm in "abc" for seed in range(20)
    ]


@pytest.mark.parametrize(
    "name", ["regularization.fashion.digits.quick", "dying-relu.absolute.full"]
)
def test_merging_keeps_every_line_of_a_reference_file(tmp_path: Path, name: str) -> None:
    lines = (REFERENCE / f"{name}.jsonl").read_text().splitlines()
    path = tmp_path / f"{name}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    merge(path, [result("new", 0)])
    merged = path.read_text().splitlines()
    assert len(merged) == len(lines) + 1
    assert set(lines) < set(merged)


def test_unwritable_place_raises() -> None:
    with pytest.raises(StoreError, match="cannot write results to /dev/null/study.jsonl"):
        merge(Path("/dev/null/study.jsonl"), [result("a", 0)])
