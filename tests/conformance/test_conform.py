"""Checking an engine from the command line, and by pytest in an empty folder."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import enter, invoke
from test_check_engine import HalfBias

from dlsys_bench import check_engine
from dlsys_bench.conformance.check import in_dtypes
from dlsys_bench.conformance.ladder import select
from dlsys_bench.conformance.trial import Options

HERE = Path(__file__).parent


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a module in a process whose path contains the engines of the tests."""
    path = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_a_replay_gives_the_same_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = check_engine(
        HalfBias, "collect", checks=["gradient/dense"], options=Options(seed=3)
    )
    assert result.finding is not None
    assert result.replay is not None
    assert "test_check_engine:HalfBias --check gradient/dense --seed 3" in result.replay
    enter(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    again = invoke(*shlex.split(result.replay)[1:], "--json", code=1)
    assert json.loads(again.stdout)["outcomes"][0]["finding"] == result.finding.to_dict()


def test_a_timeout_ends_with_the_code_of_an_inconclusive_gate_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(HERE)
    names = ("shapes/history", "shapes/dense")
    done = invoke(
        *["conform", "--engine", "hostile:Hangs", "--seconds", "2", "--jobs", "1"],
        *(word for name in names for word in ("--check", name)),
        code=3,
    )
    assert "hostile:Hangs is inconclusive: 1 passed, 1 timed out" in done.stdout
    assert "--seconds (of pytest: --dlsys-seconds) raises the limit" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_a_climb_leaves_no_files(engine: str, tmp_path: Path) -> None:
    done = run("dlsys_bench", "conform", "--engine", engine, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_timeout_under_pytest_names_its_option(tmp_path: Path) -> None:
    arguments = ["pytest", "--pyargs", "dlsys_bench.conformance", "-k", "shapes/history"]
    limit = ["--dlsys-engine", "hostile:Hangs", "--dlsys-seconds", "2", "-p", "no:cacheprovider"]
    done = run(*arguments, *limit, "--junit-xml", "junit.xml", folder=tmp_path)
    assert done.returncode == 1
    assert "timed out, which is no verdict: shapes/history" in done.stdout
    assert "--dlsys-seconds) raises the limit" in done.stdout
    assert "timed out, which is no verdict" in (tmp_path / "junit.xml").read_text()


@pytest.mark.slow
def test_pyargs_from_an_empty_folder(tmp_path: Path) -> None:
    arguments = [
        "pytest",
        "--pyargs",
        "dlsys_bench.conformance",
        "-q",
        "-rs",
        "-k",
        "gradient/ or loss/ or shapes/dense",
    ]
    done = run(
        *arguments,
        "--dlsys-engine",
        "test_check_engine:HalfBias",
        "-p",
        "no:cacheprovider",
        folder=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "d dense_2.bias" in done.stdout
    above = select(["loss"], HalfBias.dtypes)
    assert f"{len(above)} skipped" in done.stdout
    assert "not reached: the rung gradient broke" in done.stdout


@pytest.mark.slow
def test_the_command_from_an_empty_folder(tmp_path: Path) -> None:
    healthy = ["dlsys_bench", "conform", "--check", "loss", "--check", "step", "--output", "before"]
    done = run(*healthy, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "before").iterdir()) == [
        f"numpy.{kind}" for kind in ("html", "json", "md", "svg")
    ]
    page = (tmp_path / "before" / "numpy.html").read_text()
    assert "conforms in the selected checks" in page
    dtypes = ("float32", "float64")
    counts = json.loads((tmp_path / "before" / "numpy.json").read_text())["counts"]
    passed, total = counts["passed"], len(in_dtypes(dtypes))
    assert passed + counts["declared"] == len(select(["loss", "step"], dtypes))
    assert f"{passed} of {total} checked" in (tmp_path / "before" / "numpy.svg").read_text()
    broken = [
        "--engine",
        "test_check_engine:HalfBias",
        "--against",
        "before/numpy.json",
        "--output",
        "after",
    ]
    done = run("dlsys_bench", "conform", "--check", "step", *broken, folder=tmp_path)
    assert done.returncode == 1
    assert "step/sgd: passed before, failed now" in done.stderr
    assert "loss/hinge: passed before, absent now" in done.stderr
    assert "breaks at step" in (tmp_path / "after" / "test_check_engine.HalfBias.svg").read_text()
    done = run("dlsys_bench", "conform", "--engine", "nunpy", folder=tmp_path)
    assert done.returncode == 2
    assert 'did you mean "numpy"' in done.stderr
