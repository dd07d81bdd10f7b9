"""Imports point one way: cli, plugin, report, verdict, run, studies, engines, data, result,
spec."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dlsys_bench

PACKAGE = Path(dlsys_bench.__file__).parent
FLOORS = (
    ("errors",),
    ("attributes",),
    ("spec",),
    ("result", "plan", "provenance"),
    ("data", "claims"),
    ("store", "checkpoint"),
    ("engines",),
    ("studies",),
    ("run", "callables"),
    ("calibration",),
    ("timing",),
    ("verdict",),
    ("conformance",),
    ("report", "strategies"),
    ("options",),
    ("cli", "plugin", "__init__"),
    ("__main__",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
FRAMEWORKS = {"numba", "torch", "tensorflow", "keras", "jax"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, `from x import y` as x."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {
                f"{node.module}.{alias.name}"
                for alias in node.names
                if node.module == "dlsys_bench"
            }
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "dlsys_bench" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != here:
            assert FLOOR[parts[1]] < FLOOR[here], f"{path.name} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_frameworks_stay_in_their_engines(path: Path) -> None:
    if "engines" not in path.parts:
        assert not {module.split(".")[0] for module in imports(path)} & FRAMEWORKS


def test_every_module_has_a_floor() -> None:
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert modules <= set(FLOOR)


@pytest.mark.parametrize("part", ["spec", "result.py"])
def test_the_spec_and_the_results_hold_no_arrays(part: str) -> None:
    place = PACKAGE / part
    for path in [place] if place.is_file() else place.rglob("*.py"):
        assert not any(module.split(".")[0] == "numpy" for module in imports(path)), path
