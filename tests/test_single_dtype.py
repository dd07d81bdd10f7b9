"""Engines with one dtype work by their name in every command, in that dtype."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import enter, invoke

from dlsys_bench.conformance.check import CHECKS
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.dtypes import by_precision, default_dtype
from dlsys_bench.engines.registry import create, dtypes_of
from dlsys_bench.errors import EngineError
from dlsys_bench.runs.store import read

ENGINES = """
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study

class Double(NumpyEngine):
    name, dtypes = "double", ("float64",)

MODEL = Model("tiny", (28, 28, 1), (Flatten(), Dense(10)))
ARM = Arm("only", MODEL, {"quick": Recipe(SGD(0.1), batch_size=64, epochs=1)})
TINY = Study("tiny", "tiny", "tiny", "digits", (ARM,))
"""

TEST = """
from dlsys_bench import parametrize_with_checks
from own import Double

@parametrize_with_checks(["own:Double", Double], ["loss/hinge"])
def test_loss(check):
    check()
"""

ARM = "cyclical-learning-rate/fixed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with an engine that has float64 alone."""
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    (tmp_path / "own.py").write_text(ENGINES)
    return tmp_path


def test_an_engine_is_created_in_its_default_dtype(folder: Path) -> None:
    engine = create("own:Double")
    assert engine.dtype == "float64"
    assert type(engine)().dtype == "float64"
    assert dtypes_of("own:Double") == ("float64",)
    assert create("numpy").dtype == "float32"
    with pytest.raises(EngineError, match="no dtype 'float32'; it has float64"):
        create("own:Double", "cpu", "float32")


def test_the_default_is_float32_and_the_order_is_that_of_the_precision() -> None:
    assert default_dtype(Engine.dtypes) == "float32"
    assert default_dtype(("float64", "float32")) == "float32"
    assert default_dtype(("float64",)) == "float64"
    assert by_precision(("float32", "float64")) == ["float64", "float32"]
    with pytest.raises(EngineError, match="'fp8' of the engine is not known"):
        by_precision(("fp8",))


def test_conform_runs_each_check_once(folder: Path) -> None:
    report = json.loads(
        invoke("conform", "--engine", "own:Double", "--check", "loss/h*", "--json").stdout
    )
    assert report["counts"]["failed"] == 0
    assert report["expected"] == list(CHECKS)
    assert all("@" not in outcome["name"] for outcome in report["outcomes"])


@pytest.mark.slow
def test_gate_passes(folder: Path) -> None:
    gate = invoke("gate", ARM, "--engine", "own:Double", "--dataset", "digits", "--json")
    assert [verdict["outcome"] for verdict in json.loads(gate.stdout)["verdicts"]] == ["PASS"]


def test_run_and_compare(folder: Path) -> None:
    for engine, path in (("own:Double", "double.jsonl"), ("numpy", "numpy.jsonl")):
        arguments = ("run", "own:TINY", "--dataset", "digits", "--seeds", "2", "--engine", engine)
        invoke(*arguments, "--output", path)
    assert {run.key.dtype for run in read(folder / "double.jsonl")} == {"float64"}
    compared = json.loads(invoke("compare", "double.jsonl", "numpy.jsonl", "--json", code=3).stdout)
    assert "double float64" in json.dumps(compared)


def test_bench_measures_the_only_dtype(folder: Path) -> None:
    arguments = ("--engine", "own:Double", "--batch-size", "32", "--seconds", "0.1")
    done = invoke("bench", "sweep", ARM.partition("/")[0], *arguments, "--output", "s.jsonl")
    (point,) = map(json.loads, (folder / "s.jsonl").read_text().splitlines())
    assert point["dtype"] == "float64", done.stderr


def test_the_checks_run_under_pytest(folder: Path, pytester: pytest.Pytester) -> None:
    pytester.syspathinsert(folder)
    pytester.makepyfile(TEST)
    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=2)


@pytest.mark.slow
def test_the_pytest_module_collects_each_check_once(
    folder: Path, pytester: pytest.Pytester
) -> None:
    pytester.syspathinsert(folder)
    arguments = ("--pyargs", "dlsys_bench.conformance", "--dlsys-engine", "own:Double")
    done = pytester.runpytest_subprocess(*arguments, "--collect-only", "-q", "-n0")
    done.stdout.fnmatch_lines([f"{len(CHECKS)} tests collected*"])
