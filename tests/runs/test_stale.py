"""Stored runs of a training that has changed since are never used as those of the present one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.runs.store import read

TRAINING = """from pathlib import Path

import helper


def train(seed):
    return float(Path("data.txt").read_text()) + helper.offset(seed)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    forget()


def forget() -> None:
    """Import the modules of the training anew, as the next command does."""
    for name in ("stale", "helper"):
        sys.modules.pop(name, None)


def call(*arguments: str, code: int = 0) -> str:
    forget()
    ended = CliRunner().invoke(cli, ["calibrate", *arguments])
    assert ended.exit_code == code, ended.output
    return " ".join(ended.output.split())


def test_runs_of_a_training_that_has_changed_do_not_serve(tmp_path: Path) -> None:
    (tmp_path / "stale.py").write_text(TRAINING)
    (tmp_path / "helper.py").write_text("def offset(seed):\n    return seed / 1000\n")
    (tmp_path / "data.txt").write_text("0.5")
    arguments = ("stale:train", "--seeds", "2", "--workers", "1", "--output")

    def figures(file: str) -> list[float]:
        return [run.figures["metric"] for run in read(tmp_path / file)]

    assert "2 requested, 2 trained" in call(*arguments, "a.jsonl")
    # Nothing has changed, but a new file is trained for unless the stored runs are requested.
    assert "2 requested, 2 trained" in call(*arguments, "b.jsonl")
    assert "reused: 2 runs, trained 20" in call(*arguments, "b.jsonl")
    (tmp_path / "b.jsonl").unlink()
    said = call(*arguments, "b.jsonl", "--resume")
    assert "2 already stored, 0 trained" in said
    assert "b.jsonl: 2 new runs reused: 2 runs, trained 20" in said
    (tmp_path / "data.txt").write_text("0.7")
    assert "2 requested, 2 trained" in call(*arguments, "c.jsonl")
    (tmp_path / "helper.py").write_text("def offset(seed):\n    return seed / 500\n")
    assert "2 requested, 2 trained" in call(*arguments, "d.jsonl")
    assert [figures(f"{name}.jsonl") for name in "abcd"] == [
        [0.5, 0.501],
        [0.5, 0.501],
        [0.7, 0.701],
        [0.7, 0.702],
    ]
    said = call(*arguments, "c.jsonl", code=2)
    assert "c.jsonl holds runs of an earlier stale:train: helper.offset has changed" in said
    said = call(*arguments, "a.jsonl", code=2)
    assert "helper.offset has changed, data.txt has changed" in said
