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
        timeout=300,
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


@pytest.mark.slow
def test_pyargs_from_an_empty_folder(tmp_path: Path) -> None:
    arguments = [
        "pytest",
        "--pyargs",
        "dlsys_bench.conformance",
        "-q",
        "-rs",
        "-k",
        "gradient or loss or shapes-dense",
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
    assert "7 skipped" in done.stdout
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
    total = len(in_dtypes(("float32", "float64")))
    assert f"25 of {total} checked" in (tmp_path / "before" / "numpy.svg").read_text()
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
