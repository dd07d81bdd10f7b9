"""The progress of gates and calibrations under pytest, past the capture of its output."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TEST = """
import time

import numpy as np

STORED = [0.9 + 0.004 * value for value in np.random.default_rng(0).standard_normal(20)]


def train(seed):
    time.sleep(0.02 if seed < 10000 else 0.3)
    print("printed by the training")
    return 0.9 + 0.004 * np.random.default_rng(seed).standard_normal()


def test_it(accuracy_gate):
    accuracy_gate(train, {reference}, smallest_shift=0.02)
"""
CONFTEST = """
import dlsys_bench.plugin.progress as progress

progress.SILENCE = 0.01
"""


@pytest.mark.parametrize(
    ("reference", "options", "steps", "seed"),
    [
        ("'it.jsonl'", ["--dlsys-update"], "of 20 reference runs", r"\d+"),
        pytest.param("STORED", [], "of 12 seeds at most", "10000", marks=pytest.mark.slow),
    ],
)
def test_a_test_prints_lines_with_the_time_left(
    reference: str, options: list[str], steps: str, seed: str, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(test_it=TEST.format(reference=reference))
    pytester.makeconftest(CONFTEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "-p", "dlsys_bench.plugin", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    line = rf"test_it.py::test_it: \d+ {steps} after \d+ s, about \d+ s left; seed {seed}: metric 0"
    assert re.search(line, done.stderr)
    assert "printed by the training" not in done.stdout + done.stderr
