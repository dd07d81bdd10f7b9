"""A run that is stored twice counts once, and two results of one run are named."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import enter, invoke
from results import EPOCH, changed, make_result

from dlsys_bench.errors import StoreWarning
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import append, read, read_all, reference_runs

TRAINING = """
def train(seed):
    return {"accuracy": 0.9 + seed % 7 / 1000}
"""


def trained(seed: int, **figures: float) -> Result:
    return make_result(
        seed,
        study="twice:train",
        arm="",
        dataset="",
        tier="",
        engine=CALLABLE,
        history=[],
        figures={"accuracy": 0.9 + seed % 7 / 1000} | figures,
    )


@pytest.fixture(params=["runs.jsonl", "runs.db"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    (tmp_path / "twice.py").write_text(TRAINING)
    return Path(request.param)


@pytest.fixture
def twice(path: Path) -> Path:
    """A file in which every run is stored twice, as after a gate that was killed and repeated."""
    for _ in range(2):
        for seed in range(10):
            append(path, trained(seed))
    return path


@pytest.fixture
def warned() -> Iterator[list[str]]:
    found: list[str] = []
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always", StoreWarning)
        yield found
        found += [str(one.message) for one in recorded]


def listed(*arguments: str) -> Any:
    return json.loads(invoke(*arguments).stdout)


COUNTS: dict[str, Callable[[str], int]] = {
    "report": lambda file: len(listed("report", "--json", file)),
    "report on two files": lambda file: len(listed("report", "--json", file, file)),
    "runs import": lambda file: len(_imported(file)),
    "compare": lambda file: listed(
        "compare", file, "other.jsonl", "--json", "--metric", "accuracy"
    )["comparisons"][0]["a"]["runs"],
    "gate": lambda file: listed(
        "gate", "twice:train", "--reference", file, "--output", "new.db", "--json"
    )["verdicts"][0]["band"]["n"],
}
"""The number of runs that a command counts in a file."""


def _imported(file: str) -> list[Result]:
    assert "10 runs, 10 added" in invoke("runs", "import", file, "--store", "new.db").stderr
    return read("new.db")


@pytest.mark.parametrize("command", COUNTS)
def test_every_command_counts_a_run_once(twice: Path, command: str) -> None:
    for seed in range(10):
        append("other.jsonl", replace(trained(seed), seconds=3.0))
    assert COUNTS[command](str(twice)) == 10


def test_a_repeated_gate_adds_no_seeds(path: Path) -> None:
    for seed in range(10):
        append("reference.jsonl", trained(seed))
    gate = ("gate", "twice:train", "--reference", "reference.jsonl", "--output", str(path))
    invoke(*gate)
    once = [run.seed for run in read(path)]
    invoke(*gate)
    assert [run.seed for run in read(path)] == once


def test_reference_runs_are_counted_once(tmp_path: Path) -> None:
    for _ in range(2):
        append(tmp_path / "runs.jsonl", make_result(3))
    assert len(reference_runs(tmp_path / "runs.jsonl", "arm", "p")) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"figures": {"accuracy": 0.5}}, "accuracy is 0.901 and 0.5"),
        ({"figures": {}}, "accuracy is 0.901 and None"),
        ({"status": "diverged"}, "status is 'finished' and 'diverged'"),
        ({"history": [EPOCH]}, "steps of epoch 1 is None and 10"),
    ],
)
def test_different_results_of_one_run_are_named(
    path: Path, change: dict[str, Any], said: str
) -> None:
    first, last = trained(1), changed(trained(1), **change)
    for run in (first, trained(2), last):
        append(path, run)
    where = "run 1 and run 3" if path.suffix == ".db" else "line 1 and line 3"
    message = f"{path}: conflict: twice:train, seed 1: {said} ({where}); the last is used"
    with pytest.warns(StoreWarning) as found:
        assert read(path) == [trained(2), last]
    assert [str(one.message) for one in found] == [message]


def test_different_results_in_two_files_are_named(path: Path) -> None:
    append(path, trained(1))
    append("other.jsonl", trained(1, accuracy=0.5))
    with pytest.warns(StoreWarning, match=rf"seed 1: .* \({path} and other.jsonl\); the last is"):
        (run,) = read_all([path, "other.jsonl"])
    assert run.figures == {"accuracy": 0.5}


def test_durations_are_no_part_of_a_result(path: Path, warned: list[str]) -> None:
    append(path, trained(1))
    append(path, replace(trained(1), seconds=9.0, provenance={"time": "later"}))
    append(path, make_result(1))
    append(path, make_result(1, history=[replace(EPOCH, seconds=9.0)]))
    assert len(read(path)) == 2
    assert warned == []


def test_many_conflicts_are_counted(path: Path) -> None:
    for accuracy in (0.5, 0.6):
        for seed in range(10):
            append(path, trained(seed, accuracy=accuracy))
    with pytest.warns(StoreWarning) as found:
        read(path)
    assert len(found) == 4
    assert str(found[-1].message) == f"{path}: conflict: 7 more runs have different results"


def test_import_keeps_the_stored_run_and_names_the_other(path: Path) -> None:
    append("stored.db", trained(1))
    append(path, trained(1, accuracy=0.5))
    message = r"conflict: twice:train, seed 1: accuracy is 0.901 and 0.5 \(stored.db and .*\); the "
    with pytest.warns(StoreWarning, match=message + "stored one is kept"):
        invoke("runs", "import", str(path), "--store", "stored.db")
    assert read("stored.db") == [trained(1)]
