"""The paths that every use takes run without the modules and functions that Windows or macOS
lack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Python runs it at the start of every process, also of the workers of a calibration. The libraries
# have code for each platform, so the modules are hidden from this package alone.
HIDE = """
import builtins, os, signal

MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "posix"}
original = builtins.__import__

def hiding(name, globals=None, *arguments, **more):
    if name in MODULES and str((globals or {}).get("__name__")).startswith("dlsys_bench"):
        raise ImportError(f"{name} is hidden")
    return original(name, globals, *arguments, **more)

builtins.__import__ = hiding
for name in ("sched_getaffinity", "process_cpu_count", "fork", "forkpty", "killpg", "setsid",
             "getpgid", "pread", "pwrite", "getloadavg", "posix_fallocate", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGUSR1", "alarm", "setitimer"):
    delattr(signal, name)
"""

MINE = """
def train(seed):
    return {"accuracy": 0.9 + (37 * seed % 101 % 7) / 1000}
"""

TEST = """
from mine import train

def test_accuracy(accuracy_gate):
    accuracy_gate(train, reference="reports/reference/mine.train.jsonl", smallest_shift=0.02)
"""

COMMANDS = """
import os, sys
import pytest
from dlsys_bench.cli import cli

sys.path.insert(0, "")

def call(*arguments):
    try:
        code = cli.main(arguments, standalone_mode=False)
    except SystemExit as end:
        code = end.code
    print("CODE", arguments[0], code or 0)

if __name__ == "__main__":
    assert not hasattr(os, "fork")
    call("calibrate", "mine:train", "--seeds", "12", "--workers", "2")
    print("CODE pytest", int(pytest.main(["-q", "-p", "no:cacheprovider", "test_mine.py"])))
    arm = "cyclical-learning-rate/fixed"
    call("gate", arm, "--dataset", "digits", "--output", "runs.jsonl")
    call("run", "dying-relu", "--seeds", "1")
    call("runs", "list")
    call("list")
    call("conform", "--check", "loss/hinge", "--jobs", "1")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(TEST)
    (tmp_path / "commands.py").write_text(COMMANDS)
    return tmp_path


def test_gates_runs_calibration_and_the_store_run_without_posix(folder: Path) -> None:
    path = os.pathsep.join([str(folder / "hidden"), *sys.path])
    done = subprocess.run(
        [sys.executable, "commands.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "DLSYS_BENCH_DATA": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("CODE")]
    expected = ["calibrate 0", "pytest 0", "gate 0", "run 0", "runs 0", "list 0", "conform 0"]
    assert codes == [f"CODE {line}" for line in expected], done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    reference = folder / "reports" / "reference" / "mine.train.jsonl"
    assert reference.read_bytes().count(b"\n") == 12
