"""Find declarations that are stale: the engine declares that it lacks something that works.

A check whose requirement the engine lacks is not run. So that a declaration does not outlive its
reason, the first check of the ladder that is about it runs all that are, as if the engine did not
declare the lack. If all of them pass, that first check fails, with a finding that says what to
remove. It does not break its rung, because nothing above depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dlsys_bench.conformance.check import CHECKS, Check
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import Runner
from dlsys_bench.errors import count_of


def checks_of(lack: str) -> Iterator[Check]:
    """Yield the checks that are about something that engines may lack, from the lowest."""
    return (check for check in CHECKS.values() if lack in (check.name, *check.requires))


def run_and_judge(runner: Runner, name: str) -> CheckResult:
    """Run a check. If the engine declares that it lacks what the check is about, and the check is
    the first that is about it, fail it if the declaration is stale."""
    result = runner.run(name)
    lack = result.lacking
    first = next(checks_of(lack), None) if lack is not None else None
    if lack is None or first is None or first.name != name:
        return result
    passed = 0
    for check in checks_of(lack):
        found = runner.run(check.ignoring(lack).name)
        passed += found.status is Status.PASSED
        # A check that also needs something else that is lacking says nothing. If that is the first
        # one, nothing can be compared.
        if found.status is not Status.PASSED and (
            found.status is not Status.DECLARED or not passed
        ):
            return result
    return _stale(runner, result, lack, passed)


def _stale(runner: Runner, result: CheckResult, lack: str, passed: int) -> CheckResult:
    finding = Finding(
        f"the engine declares that it lacks {lack!r} ({result.reason}), but all of the "
        f"{count_of(passed, 'check')} that require it pass",
        Fault.STALE_DECLARATION,
        diagnosis="the declaration is stale: remove it",
        example=f"all checks that require {lack}, with few examples",
    )
    replay = runner.replay(result.name)
    return replace(result, status=Status.FAILED, finding=finding, reason=None, replay=replay)
