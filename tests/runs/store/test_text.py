"""Runs as text: complete lines, and warnings for damaged ones."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results import EPOCH, make_result

from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import StoreError
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import (
    append,
    find_reference,
    read,
    reference_path,
    reference_runs,
    stored_keys,
    write_text,
)
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm


def result(seed: int = 1, **changes: Any) -> Result:
    history = [EPOCH, Epoch(2, 20, 0.5, 1.0, 0.75)]
    return make_result(seed, **{"history": history} | changes)


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.jsonl"
    append(path, result(1))
    append(path, result(2, status="diverged", reason="NaN", history=[]))
    assert read(path) == [result(1), result(2, status="diverged", reason="NaN", history=[])]
    assert stored_keys(read(path)) == {result(1).key, result(2).key}
    assert result(1).key == Key(
        study="study",
        arm="arm",
        dataset="digits",
        tier="quick",
        engine="numpy",
        device="cpu",
        dtype="float32",
        seed=1,
        protocol="p",
    )


def test_reference_runs_have_one_arm_and_one_protocol(tmp_path: Path) -> None:
    path = tmp_path / "reference.jsonl"
    append(path, result(1))
    append(path, result(2, protocol="another"))
    append(path, result(3, arm="other"))
    assert [run.seed for run in reference_runs(path, "arm", "p")] == [1]
    assert reference_runs(tmp_path / "nowhere.jsonl", "arm", "p") == []


MODEL = Model("small", (8,), (Dense(4),))


def test_protocol_is_the_same_in_every_convention() -> None:
    recipe = Recipe(Adam(0.001), steps=5)
    arm = Arm(
        "arm",
        MODEL,
        {
            "quick": recipe,
            "torch": to_convention("torch", recipe),
            "longer": replace(recipe, steps=6),
        },
    )
    wider = replace(arm, model=replace(MODEL, layers=(*MODEL.layers[:-1], Dense(5))))
    assert arm.protocol("quick") == arm.protocol("torch")
    assert len({arm.protocol("quick"), arm.protocol("longer"), wider.protocol("quick")}) == 3


def test_reference_runs_of_the_user_precede_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = ("regularization/lenet5-tanh", "digits", "quick")
    packaged = find_reference(*key)
    assert packaged.exists()
    assert not packaged.is_relative_to(tmp_path)
    append(reference_path(*key), result(1))
    assert find_reference(*key) == reference_path(*key)


def test_truncated_line_is_left_out_and_does_not_damage_the_next(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    append(path, result(1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    append(path, result(3))
    with pytest.warns(UserWarning, match=r"runs.jsonl, line 2 is not a run"):
        assert [run.seed for run in read(path)] == [1, 3]


@pytest.mark.parametrize(
    "line", ["null", "[]", "{}", '{"history": 3}', "not json", '{"study": "s"}']
)
def test_lines_that_are_not_runs_are_left_out_with_a_warning(tmp_path: Path, line: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(line + "\n")
    append(path, result(1))
    with pytest.warns(UserWarning, match="line 1 is not a run"):
        assert len(read(path)) == 1


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read results from .*nowhere.jsonl: No such file"):
        read(tmp_path / "nowhere.jsonl")


def test_folder_in_place_of_a_file_raises(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write results to .*: Is a directory"):
        append(tmp_path, result())


def test_full_disk_keeps_every_written_run(tmp_path: Path) -> None:
    # A limit on the size of a file stands in for the full disk: the write stops half way, just so.
    path = tmp_path / "runs.jsonl"
    append(path, result(1))
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_text import result
from dlsys_bench.errors import StoreError
from dlsys_bench.runs.store import append
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = Path({str(path)!r}).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    append(Path({str(path)!r}), result(2))
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "the runs written before are kept" in done.stdout
    assert [run.seed for run in read(path)] == [1]
    append(path, result(3))
    assert [run.seed for run in read(path)] == [1, 3]


def _append_many(path: Path, first: int) -> None:
    for seed in range(first, first + 50):
        append(path, result(seed))


def test_concurrent_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(path, first)) for first in (0, 50, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(run.seed for run in read(path)) == list(range(150))


def test_files_are_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.jsonl"
    write_text(path, [result(1), result(2)])
    assert [run.seed for run in read(path)] == [1, 2]

    def broken() -> Iterator[Result]:
        yield result(3)
        raise OSError(28, "no space left on device")

    with pytest.raises(
        StoreError, match=r"runs.jsonl: no space left on device; the previous file is kept"
    ):
        write_text(path, broken())
    assert [run.seed for run in read(path)] == [1, 2]
    assert [found.name for found in path.parent.iterdir()] == ["runs.jsonl"]
