"""The option --scaling: the scaling of the data in place of the recipes' own."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command_line import enter, invoke

from dlsys_bench.data import load
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.options.bench_table import OPTIONS
from dlsys_bench.options.table import TIERS
from dlsys_bench.plugin import gate as plugin_gate
from dlsys_bench.plugin.cases import EngineCase
from dlsys_bench.runs.calibration import job
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import resolve
from dlsys_bench.runs.store import read
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find
from dlsys_bench.timing.target import Target
from dlsys_bench.timing.to_accuracy import Run

STUDY = """
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study

SMALL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
RECIPE = Recipe(SGD(0.1), batch_size=64, epochs=1)
MINE = Study("mine", "mine", "mine", "digits", (Arm("only", SMALL, {"quick": RECIPE}),))
"""
COMMAND = ("run", "mine:MINE", "--output", "runs.jsonl")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study, and with the digits as floats from 0 to 1."""
    enter(tmp_path, monkeypatch)
    (tmp_path / "mine.py").write_text(STUDY)
    digits = load("digits")
    np.savez(
        tmp_path / "unit.npz",
        x_train=digits.x_train.astype(np.float32) / 255,
        y_train=digits.y_train,
        x_test=digits.x_test.astype(np.float32) / 255,
        y_test=digits.y_test[:, None],
    )
    return tmp_path


@pytest.fixture
def case(folder: Path) -> Case:
    (found,) = find("mine:MINE")
    return found


def test_every_command_with_a_tier_takes_it() -> None:
    taking = [option for option in OPTIONS if option.name == "scaling"]
    assert {command for option in taking for command in option.commands} == {*TIERS, "inspect"}


def test_the_advice_about_floats_can_be_followed(folder: Path) -> None:
    message = invoke(*COMMAND, "--dataset", "unit.npz", code=2).stderr
    assert message.startswith("dlsys-bench: unit.npz: x_train is float32 with values from 0 to 1")
    assert "--scaling raw takes the values as they are" in message
    invoke(*COMMAND, "--dataset", "unit.npz", "--scaling", "raw")
    invoke(*COMMAND, "--dataset", "digits", "--seeds", "2")
    raw, pixels, other = read(folder / "runs.jsonl")
    assert raw.recipe["scaling"] == "raw"
    assert pixels.recipe["scaling"] == "unit"
    # The same values, so that the training is the same, but for the rounding of the division.
    assert raw.last is not None
    assert pixels.last is not None
    assert raw.last.test_loss == pytest.approx(pixels.last.test_loss, rel=1e-5)
    assert raw.key.protocol != pixels.key.protocol == other.key.protocol


def test_a_run_of_another_scaling_is_another_run(folder: Path) -> None:
    for _ in range(2):
        for scaling in ("unit", "standard"):
            invoke(*COMMAND, "--dataset", "digits", "--scaling", scaling, "--resume")
    invoke(*COMMAND, "--dataset", "digits", "--resume")
    stored = [run.recipe["scaling"] for run in read(folder / "runs.jsonl")]
    assert stored == ["unit", "standard"]


def test_the_replay_line_of_a_gate_has_it(folder: Path) -> None:
    replay = ["dlsys-bench", "gate", "mine:MINE", "--dataset", "unit.npz", "--scaling", "raw"]
    for _ in range(2):
        (verdict,) = json.loads(invoke(*replay[1:], "--json", code=3).stdout)["verdicts"]
        replay = shlex.split(verdict["replay"])
        assert replay[replay.index("--scaling") + 1] == "raw"


def test_a_worker_of_a_calibration_uses_it(folder: Path, case: Case) -> None:
    # As `choose_dataset` names it.
    data = replace(load("unit.npz"), name="unit.npz")
    work = [(case.scaled("raw"), NumpyEngine(), data)]
    (one,) = job.jobs_of_study(work, "quick", [3])
    ended = job.train(one)
    assert isinstance(ended, Result)
    assert ended.recipe["scaling"] == "raw"
    assert ended.key.protocol == one.key.protocol == case.scaled("raw").arm.protocol("quick")


@pytest.mark.parametrize("scaling", [None, "raw", "standard"])
def test_a_time_to_accuracy_finds_it_by_the_protocol(case: Case, scaling: Any) -> None:
    protocol = case.scaled(scaling).arm.protocol("quick")
    key = Key("mine:MINE", "only", "digits", "quick", "numpy", "cpu", seed=0, protocol=protocol)
    target = Target("test_accuracy", 0.9, 0.99, 0.91, 0.01, 20, "")
    assert Run(key, target).case.arm.protocol("quick") == protocol


def test_a_gate_of_pytest_uses_it(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"dlsys_tier": "quick", "dlsys_scaling": "raw"}
    judge = plugin_gate.Judge(SimpleNamespace(getoption=options.get), 1)  # type: ignore[arg-type]
    judge.engines["numpy"], judge.datasets[case.dataset] = NumpyEngine(), load("digits")
    judged: list[Case] = []
    monkeypatch.setattr(plugin_gate, "gate", lambda case, *_, **__: judged.append(case))
    monkeypatch.setattr(plugin_gate.Judge, "terms", None)
    judge.judge(EngineCase(case, "numpy"))
    assert [one.arm.recipe("quick").scaling for one in judged] == ["raw"]


def test_a_study_that_measures_does_not_take_it() -> None:
    (case,) = find("eggholder/64")
    eggholder = load(case.dataset)
    with pytest.raises(NotApplicableError, match="prepares its data itself: omit --scaling unit"):
        resolve(case.scaled("unit"), NumpyEngine(), eggholder, "quick")
    assert case.scaled(None) is case


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({"x": lambda x: x.reshape(len(x), -1)}, "x.reshape(-1, 28, 28, 1)"),
        ({"x": lambda x: x.transpose(0, 3, 1, 2)}, "x.transpose(0, 2, 3, 1)"),
        ({"y": lambda y: np.eye(10)[y]}, "y_train.argmax(axis=1)"),
        ({"y": lambda y: y[:, None] * 1.0}, 'y_train[:, 0].astype("int64")'),
    ],
)
def test_data_that_do_not_fit_are_explained(
    folder: Path, case: Case, changed: dict[str, Any], advice: str
) -> None:
    digits = load("digits")
    arrays = {name: getattr(digits, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    wrong = {name: changed.get(name[0], np.asarray)(values) for name, values in arrays.items()}
    np.savez(folder / "own.npz", **wrong)
    message = invoke(*COMMAND, "--dataset", "own.npz", code=2).stderr
    assert message.startswith("dlsys-bench: own.npz: ")
    assert f"; {advice}" in message.replace("its rows are one-hot, and ", "")
    kind = advice[0]
    expression = advice.replace("y_train", "y")
    followed = {
        name: eval(expression, {kind: values}) if name[0] == kind else values
        for name, values in wrong.items()
    }
    np.savez(folder / "own.npz", **followed)
    invoke(*COMMAND, "--dataset", "own.npz")
