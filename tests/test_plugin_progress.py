"""The progress of gates and calibrations under pytest, past the capture of its output."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TEST = """
import time

import numpy as np


def train(seed):
    time.sleep(0.02 if seed < 10000 else 0.3)
    print("printed by the training")
    return 0.9 + 0.004 * np.random.default_rng(seed).standard_normal()


def test_it(accuracy_gate):
    accuracy_gate(train, "it.jsonl", smallest_shift=0.02)
"""
CONFTEST = """
import dlsys_bench.plugin.progress as progress

progress.SILENCE = 0.01
"""


def test_calibrations_and_gates_print_lines_with_the_time_left(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    pytester.makeconftest(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-p", "dlsys_bench.plugin"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        line = [*command, *options]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)

    updated = run("--dlsys-update")
    line = (
        r"test_it.py::test_it: \d+ of 20 reference runs after \d+ s, about \d+ s left; seed \d+: "
    )
    assert re.search(line + r"metric 0.\d+\n", updated.stderr)
    assert "printed by the training" not in updated.stdout + updated.stderr
    judged = run()
    assert "1 passed" in judged.stdout
    line = r"test_it.py::test_it: 1 of 12 seeds at most after \d+ s, about \d+ s left; seed 10000: "
    assert re.search(line + r"metric 0.\d+\n", judged.stderr)
