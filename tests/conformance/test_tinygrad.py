"""A stranger's engine, by an adapter as a third party writes it, through the whole ladder."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

MISSING = [
    how
    for how, there in (
        ("pip install tinygrad", importlib.util.find_spec("tinygrad")),
        ("apt-get install clang", shutil.which("clang")),
    )
    if not there
]


@pytest.mark.skipif(bool(MISSING), reason=f"tinygrad on a CPU: {', '.join(MISSING)}")
def test_tinygrad_conforms(tmp_path: Path) -> None:
    # The ladder has two processes at work already; tinygrad's own for compiling would only be in
    # their way.
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "PARALLEL": "0"}
    command = [
        sys.executable,
        "-m",
        "dlsys_bench",
        "conform",
        "--engine",
        "tinygrad_engine:TinygradEngine",
        "--json",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert not [
        result for result in report["outcomes"] if result["status"] in ("failed", "not reached")
    ]
    assert (done.returncode, report["conforms"]) == (0, True)
    # What it lacks is all that it declares: nothing else is left out.
    assert {result["name"] for result in report["outcomes"] if result["status"] == "declared"} == {
        "shapes/max_pool",
        "forward/max_pool",
        "gradient/max_pool",
        "step/rmsprop",
        "schedule/rmsprop",
        "trajectory/lenet5-relu",
        "trajectory/fit-max_pool",
        "trajectory/native-rmsprop",
        "trajectory/long-rmsprop",
        "trajectory/float32-rmsprop",
    }


def test_the_adapter_is_short() -> None:
    tree = ast.parse((HERE / "tinygrad_engine.py").read_text())
    assert sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) <= 110
