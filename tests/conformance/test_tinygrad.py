"""The ladder for a third-party engine: tinygrad, through an adapter as its users would write it."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import in_dtypes

assert checks  # Importing them registers them.

HERE = Path(__file__).parent

MISSING = [
    how
    for how, there in (
        ("pip install tinygrad", importlib.util.find_spec("tinygrad")),
        ("apt-get install clang", shutil.which("clang")),
    )
    if not there
]


needs_tinygrad = pytest.mark.skipif(
    bool(MISSING), reason=f"tinygrad on a CPU: {', '.join(MISSING)}"
)

LACKS = (
    *("layer:max_pool", "layer:embedding", "function:elu", "function:gelu", "optimizer:rmsprop"),
    *("inputs", "layer:spatial_dropout", "average", "loss_scale"),
    *("products:float16", "products:bfloat16"),
)

# Everything that the adapter declares to lack, and nothing else, is left out.
DECLARED = {
    name
    for name, check in in_dtypes(("float32", "float64")).items()
    if set(LACKS).intersection(check.requires)
}


def climb(folder: Path, *options: str) -> dict[str, set[str]]:
    """Put tinygrad through the ladder, and return the names of the checks by their status."""
    # The ladder runs two processes at a time; tinygrad's own processes for compiling would only
    # compete with them.
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "PARALLEL": "0"}
    engine = ["--engine", "tinygrad_engine:TinygradEngine"]
    command = [sys.executable, "-m", "dlsys_bench", "conform", *engine, "--json", *options]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    results = json.loads(done.stdout)["outcomes"]
    failed = [result for result in results if result["status"] == "failed"]
    assert not failed
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for result in results:
        found[result["status"]].add(result["name"])
    return found


@pytest.mark.slow
@needs_tinygrad
def test_tinygrad_passes_checks_of_the_lower_rungs(tmp_path: Path) -> None:
    names = {"shapes/dense", "forward/dense", "gradient/dense", "loss/hinge", "step/sgd"}
    options = [part for name in sorted(names) for part in ("--check", name)]
    assert climb(tmp_path, *options, "--examples", "5") == {"passed": names}


@needs_tinygrad
@pytest.mark.slow
def test_tinygrad_conforms(tmp_path: Path) -> None:
    found = climb(tmp_path)
    assert found.keys() == {"passed", "declared"}
    assert found["declared"] == DECLARED


def test_the_adapter_is_short() -> None:
    tree = ast.parse((HERE / "tinygrad_engine.py").read_text())
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) <= 150
