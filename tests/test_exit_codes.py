"""An error never ends a command with the exit code of a verdict."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from command_line import enter, invoke

from dlsys_bench import cli
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import EngineError

ENGINES = """
from dlsys_bench.engines.numpy import NumpyEngine
class NoEngine:
    def __init__(self, device, dtype): pass
class CannotBeMade(NumpyEngine):
    def __init__(self, *args): raise RuntimeError("no driver")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "exit_code_engines.py").write_text(ENGINES)
    (tmp_path / "raises_on_import.py").write_text("raise RuntimeError('first\\nsecond')\n")
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(1)\n")


def test_an_uncaught_exception_ends_with_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(**options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.cli, "main", crash)
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 70
    stderr = capsys.readouterr().err
    assert "RuntimeError: a bug" in stderr
    assert "internal error" in stderr.splitlines()[-1]


def test_the_help_names_the_exit_codes() -> None:
    assert "70 internal error" in " ".join(invoke("--help").stdout.split())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("raises_on_import:Engine", "cannot import 'raises_on_import': RuntimeError: first second"),
        ("exits_on_import:Engine", "cannot import 'exits_on_import': SystemExit: 1"),
        ("exit_code_engines:NoEngine", "is not a subclass of dlsys_bench.engines.base.Engine"),
        ("exit_code_engines:CannotBeMade", "cannot be created: RuntimeError: no driver"),
    ],
)
def test_an_engine_that_cannot_be_loaded_is_one_line_and_exit_code_2(
    target: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        create(target)
    done = invoke("gate", "perceptron", "--engine", target, code=2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("exit_code_engines:CannotBeMade", "cannot be created: RuntimeError: no driver"),
        ("torch-tf32", "has no device 'cpu'"),
    ],
)
def test_conform_reports_an_engine_that_cannot_be_created_with_exit_code_2(
    engine: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.startswith("torch"):
        pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    done = invoke("conform", "--engine", engine, code=2)
    assert message in done.stderr
    assert done.stdout == ""
