"""The dependencies of a user's training: which edits change them, and which do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dlsys_bench.runs.dependencies import changes, data_files, dependencies_of, protocol_of

FILES = {
    "mine.py": '''"""A training."""
import os
from functools import partial

import helper
import numpy as np
from parts import blocks
from parts.sizes import *
from . import nothing  # an import that fails is no reason to fail here

WIDTH = 64
try:
    import absent
except ImportError:
    absent = None
np.seterr(all="raise")


class Net:
    depth = 2

    def predict(self, x):
        return blocks.block(x) + DEPTH


def unrelated():
    return helper.unrelated()


def train(seed):
    import lazy

    rates = [os.environ[name] for name in ("MY_RATE", "my_mode", "\\ud800")]
    return helper.scaled(Net().predict(WIDTH)) + lazy.value() + sum(rates)


other = partial(train)

if __name__ == "__main__":
    print(train(0))
''',
    "helper.py": """SCALE = 3


def scaled(x):
    return x * SCALE


def unrelated():
    return 1
""",
    "lazy.py": """import importlib


def value():
    return importlib.import_module("named").VALUE
""",
    "named.py": "VALUE = 1\n",
    "parts/__init__.py": "LOADED = [1]\nLOADED.append(2)\n",
    "parts/blocks.py": "from .sizes import WIDE\n\n\ndef block(x):\n    return x * WIDE\n",
    "parts/sizes.py": "WIDE = 8\nDEPTH = 3\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # Other tests may have imported modules by these names.
    for name in {Path(name).parts[0].removesuffix(".py") for name in FILES}:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def edit(folder: Path, file: str, old: str, new: str) -> list[str]:
    """Replace a text in a file; return the changes in the dependencies of the training."""
    before = dependencies_of("mine:train")
    path = folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new) + "\n")
    return changes(before, dependencies_of("mine:train"))


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("mine.py", "MY_RATE", "OUR_RATE", "mine.train"),
        ("mine.py", "WIDTH = 64", "WIDTH = 32", "mine.WIDTH"),
        ("mine.py", "depth = 2", "depth = 3", "mine.Net"),
        ("mine.py", 'all="raise"', 'all="warn"', "mine"),
        ("helper.py", "x * SCALE", "x + SCALE", "helper.scaled"),
        ("helper.py", "SCALE = 3", "SCALE = 4", "helper.SCALE"),
        ("lazy.py", ".VALUE", ".VALUE + 1", "lazy.value"),
        ("named.py", "1", "2", "named.*"),
        ("parts/__init__.py", "append(2)", "append(3)", "parts"),
        ("parts/blocks.py", "x * WIDE", "x", "parts.blocks.block"),
        ("parts/sizes.py", "DEPTH = 3", "DEPTH = 4", "parts.sizes.*"),
    ],
)
def test_an_edit_of_what_a_training_reaches_is_named(
    folder: Path, file: str, old: str, new: str, changed: str
) -> None:
    assert f"{changed} has changed" in edit(folder, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine.py", '"""A training."""', '"""Another text."""'),
        ("mine.py", "WIDTH = 64", "WIDTH = 64  # units\n\n"),
        ("mine.py", "return helper.unrelated()", "return 5"),
        ("mine.py", "print(train(0))", "print(train(1))"),
        ("mine.py", "other = partial(train)", "other = None"),
        ("helper.py", "return 1", "return 2"),
        ("helper.py", "def scaled(x):\n", 'def scaled(x):\n    """Scale."""\n'),
    ],
)
def test_other_edits_change_nothing(folder: Path, file: str, old: str, new: str) -> None:
    assert edit(folder, file, old, new) == []


def test_a_training_by_another_name_reaches_the_same_code(folder: Path) -> None:
    assert "mine.train" in dependencies_of("mine:other")["code"]
    assert "mine.unrelated" not in dependencies_of("mine:train")["code"]


def test_packages_are_those_of_the_imports_and_what_they_require(folder: Path) -> None:
    assert set(dependencies_of("mine:train")["packages"]) == {"python", "numpy"}
    (folder / "lazy.py").write_text("def value():\n    import scipy.stats\n    return 1\n")
    found = dependencies_of("mine:train")["packages"]
    assert {"numpy", "scipy"} <= set(found)
    assert "pytest" not in found
    before = {"packages": found | {"scipy": "1.0", "gone": "2.0"}}
    after = {"packages": found}
    assert changes(before, after) == ["gone 2.0 -> unset", f"scipy 1.0 -> {found['scipy']}"]


def test_variables_of_the_code_and_of_frameworks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    protocol = protocol_of("mine:train")
    monkeypatch.setenv("UNRELATED", "1")
    assert protocol_of("mine:train") == protocol
    for name in ("MY_RATE", "my_mode", "KERAS_BACKEND"):
        before = dependencies_of("mine:train")
        monkeypatch.setenv(name, "jax")
        assert changes(before, dependencies_of("mine:train")) == [f"{name} unset -> jax"]
        assert protocol_of("mine:train") != protocol


def test_data_files_are_those_that_are_read(folder: Path) -> None:
    (folder / "data.csv").write_text("1,2")
    (folder / "missing.csv").write_text("3")
    with data_files() as files:
        (folder / "data.csv").read_text()
        (folder / "missing.csv").read_bytes()
        (folder / "output.txt").write_text("result")
        (folder / "helper.py").read_text()
    assert list(files) == ["data.csv", "missing.csv"]
    assert changes({"files": files}, {}) == []
    (folder / "data.csv").write_text("1,2,3")
    (folder / "missing.csv").unlink()
    assert changes({"files": files}, {}) == ["data.csv has changed", "missing.csv is missing"]


def test_a_module_without_source_has_no_code() -> None:
    assert dependencies_of("math:sqrt")["code"] == {}
    assert dependencies_of("no_such_module:train")["code"] == {}
