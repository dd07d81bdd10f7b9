"""The evidence of several sessions of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

# pytester forgets the modules that an inner run imports, but numpy cannot be imported twice.
import dlsys_bench.plugin.evidence
import dlsys_bench.plugin.gate  # noqa: F401
from dlsys_bench.verdicts.evidence_file import read_evidence

TEST = """
import random

REFERENCE = [random.Random(seed).gauss(0.9, 0.01) for seed in range(40)]

def train(seed):
    return {"accuracy": random.Random(seed).gauss(%s, 0.01), "loss": 1.0 + random.random()}

def test_training(accuracy_gate):
    accuracy_gate(train, REFERENCE, metric="accuracy", smallest_shift=0.06, side="both")
"""


def test_sessions_add_to_a_file_and_fail_on_an_alarm(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test passes a shift of two standard deviations; the evidence of some sessions fails
    one, although all of its tests passed."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider")

    def run(commit: str, mean: float, *more: str) -> pytest.RunResult:
        pytester.makepyfile(test_project=TEST % mean)
        options = ("--dlsys-evidence", "evidence.jsonl", "--dlsys-commit", commit)
        return pytester.runpytest_inprocess("-p", "dlsys_bench.plugin", *options, *more)

    first = run("c0", 0.9)
    first.assert_outcomes(passed=1)
    assert first.ret == 0
    first.stdout.fnmatch_lines(["*dlsys_bench evidence*", "evidence: *, accuracy: evidence 0.*"])
    again = run("c0", 0.9)
    again.stdout.fnmatch_lines(["*commit c0 was counted before*"])
    results = [run(f"c{number}", 0.88, "--dlsys-run-number", str(number)) for number in range(1, 9)]
    failed = next(result for result in results if result.ret)
    failed.assert_outcomes(passed=1)
    assert failed.ret == 1
    failed.stdout.fnmatch_lines(["FAIL: *, accuracy: evidence *"])
    assert ": worse by " in " ".join(str(failed.stdout).split())
    (arm,) = read_evidence(Path("evidence.jsonl"))
    assert len(arm.sessions) == 9
    assert len(arm.counted) == sum(len(session.seeds) for session in arm.sessions)

    Path("evidence.jsonl").write_text("broken", encoding="utf-8")
    refused = run("c9", 0.9)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*evidence.jsonl is not a valid file of evidence*"])
