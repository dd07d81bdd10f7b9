"""Objects that are named by a module or by a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlsys_bench.attributes import load_attribute, split_target
from dlsys_bench.cli import cli
from dlsys_bench.errors import UserError
from dlsys_bench.runs.dependencies import dependencies_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before, modules = list(sys.path), set(sys.modules)
    (tmp_path / "by_path" / "inside").mkdir(parents=True)
    (tmp_path / "by_path" / "alone_here.py").write_text(
        "import beside_it\n\n\ndef train(seed):\n    return beside_it.rate(seed)\n"
    )
    (tmp_path / "by_path" / "beside_it.py").write_text("def rate(seed):\n    return seed / 8\n")
    (tmp_path / "by_path" / "inside" / "__init__.py").write_text("")
    (tmp_path / "by_path" / "inside" / "part.py").write_text("from . import __name__ as NAME\n")
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("package.module:NAME", ("package.module", "NAME", "")),
        ("package.module:STUDY/nb2/arm", ("package.module", "STUDY", "nb2/arm")),
        ("folder/file.py:train", ("folder/file.py", "train", "")),
        ("folder/file.py:STUDY/arm", ("folder/file.py", "STUDY", "arm")),
        (r"C:\folder\file.py:train", (r"C:\folder\file.py", "train", "")),
        ("study/arm", ("study/arm", "", "")),
    ],
)
def test_targets_are_split(target: str, parts: tuple[str, str, str]) -> None:
    assert split_target(target) == parts


def test_a_file_is_imported_as_python_imports_a_script(folder: Path) -> None:
    train = load_attribute("by_path/alone_here.py:train", "training")
    assert callable(train)
    assert train(1) == 0.125
    # A file of a package is imported as a module of that package.
    assert load_attribute("by_path/inside/part.py:NAME", "name") == "inside"


def test_what_cannot_be_imported_from_a_file_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^no file 'by_path/missing.py'$"):
        load_attribute("by_path/missing.py:train", "training")
    load_attribute("by_path/alone_here.py:train", "training")
    (folder / "alone_here.py").write_text("train = float\n")
    with pytest.raises(UserError, match="cannot be imported as 'alone_here': that is .*by_path"):
        load_attribute("alone_here.py:train", "training")


def test_a_training_in_a_file_is_calibrated_with_its_dependencies(folder: Path) -> None:
    target = "by_path/alone_here.py:train"
    arguments = ["--seeds", "2", "--workers", "1", "--output", "a.jsonl"]
    ended = CliRunner().invoke(cli, ["calibrate", target, *arguments])
    assert ended.exit_code == 0, ended.output
    assert len((folder / "a.jsonl").read_text().splitlines()) == 2
    assert "beside_it.rate" in dependencies_of(target)["code"]
