"""Reruns of a test repeat its verdict, as those of pytest-rerunfailures and pytest-retry do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "option"),
    [("pytest-rerunfailures", "--reruns=2"), ("pytest-retry", "--retries=2")],
)
def test_a_rerun_by_a_real_plugin_repeats_the_verdict(
    package: str, option: str, tmp_path: Path
) -> None:
    plugins = tmp_path / "plugins"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(plugins)]
    done = subprocess.run([*install, package], capture_output=True, text=True, timeout=900)
    if done.returncode:
        pytest.skip(f"no package index: {done.stderr[-200:]}")
    (tmp_path / "test_project.py").write_text(TEST)
    arguments = ["-p", "dlsys_bench.plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
    arguments += [option, "--dlsys-json", "verdicts.json", "--junitxml", "junit.xml"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, "test_project.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(plugins), *sys.path])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert "1 failed, 1 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "2 rerun" in ended.stdout or "retried" in ended.stdout
    assert "judges once" not in ended.stdout
    (verdict,) = json.loads((tmp_path / "verdicts.json").read_text())
    assert verdict["outcome"] == "FAIL"
    junit = (tmp_path / "junit.xml").read_text()
    assert "FAIL: metric 0.7" in junit
    assert "replay: pytest test_project.py::test_broken" in junit
