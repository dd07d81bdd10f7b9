"""Run commands of `dlsys-bench` in the process of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli


class Ended(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str


def invoke(*arguments: str, code: int = 0) -> Ended:
    """Run a command in the current folder, and assert its exit code."""
    result = CliRunner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return Ended(result.exit_code, result.stdout, result.stderr)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an empty folder the current one, and let commands import modules from it."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DLSYS_BENCH_DATA", raising=False)
    monkeypatch.syspath_prepend(folder)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{folder.parent.parent}/"):
            del sys.modules[name]
