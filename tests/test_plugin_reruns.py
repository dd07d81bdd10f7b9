"""Reruns of a test repeat its verdict, as those of pytest-rerunfailures and pytest-retry do."""

from __future__ import annotations

import json

import pytest

# pytester forgets the modules that an inner run imports, but numpy cannot be imported twice.
import dlsys_bench.plugin.gate

RERUNS = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for attempt in range(3):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = any(report.failed for report in reports)
        for report in reports:
            if failed and report.failed and attempt < 2:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not failed:
            break
    return True

def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
"""
TEST = """
import numpy as np

STORED = [0.9 + 0.004 * value for value in np.random.default_rng(0).standard_normal(20)]
CALLS = []

def train(seed):
    CALLS.append(seed)
    return 0.7 + 0.004 * np.random.default_rng(seed).standard_normal()

def test_broken(accuracy_gate):
    accuracy_gate(train, STORED, smallest_shift=0.02)

def test_every_seed_was_trained_once():
    assert len(CALLS) == len(set(CALLS)) > 0
"""


def test_a_rerun_repeats_the_verdict(pytester: pytest.Pytester) -> None:
    assert dlsys_bench.plugin.gate
    pytester.makeconftest(RERUNS)
    pytester.makepyfile(test_project=TEST)
    arguments = ("-p", "dlsys_bench.plugin", "-p", "no:cacheprovider", "-p", "no:xdist")
    result = pytester.runpytest_inprocess(*arguments, "--dlsys-json", "verdicts.json")
    printed = str(result.stdout)
    assert "1 failed, 1 passed, 2 rerun" in printed
    assert "judges once" not in printed
    assert printed.count("FAIL: ") >= 1
    (verdict,) = json.loads((pytester.path / "verdicts.json").read_text())
    assert verdict["outcome"] == "FAIL"
    assert verdict["replay"] == "pytest test_project.py::test_broken"
