"""The ladder: rung by rung, until one breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, RUNGS, Check
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import NO_ANSWER, Runner
from dlsys_bench.errors import UserError, nearest

assert checks

# An engine that hangs in one check does so in the next; in a rung it is not waited for more often
# than this.
HANGS = 3


def select(names: Sequence[str] | None) -> list[Check]:
    """The checks of these names: whole ones, or rungs. Errors: UserError, with the nearest."""
    if not names:
        return list(CHECKS.values())
    for name in names:
        if name not in CHECKS and name not in RUNGS:
            known = [*RUNGS, *CHECKS]
            raise UserError(
                f"unknown check {name!r}{nearest(name, known)}; known: {', '.join(RUNGS)}, or one such as {known[-1]!r}"
            )
    return [check for check in CHECKS.values() if check.name in names or check.rung in names]


def climb(
    runners: Sequence[Runner],
    selected: Sequence[Check],
    *,
    beyond: bool = False,
    on_result: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Run checks on as many runners at a time as there are. A rung that breaks is finished, and
    those above it are not reached, unless the climb is to go `beyond`."""
    free: SimpleQueue[Runner] = SimpleQueue()
    for runner in runners:
        free.put(runner)
    found: dict[str, CheckResult] = {}
    hung = 0

    def one(check: Check) -> CheckResult:
        nonlocal hung
        runner = free.get()
        try:
            if hung >= HANGS:
                result = CheckResult(
                    check.name, Status.NOT_REACHED, reason=f"{hung} checks before it hung"
                )
            else:
                result = runner.run(check.name)
                hung += bool(result.finding and result.finding.what.startswith(NO_ANSWER))
        finally:
            free.put(runner)
        if on_result is not None:
            on_result(result)
        return result

    broken: str | None = None
    with ThreadPoolExecutor(len(runners)) as pool:
        for rung in RUNGS:
            mine = [check for check in selected if check.rung == rung]
            if broken is not None and not beyond:
                for check in mine:
                    result = CheckResult(
                        check.name, Status.NOT_REACHED, reason=f"the rung {broken} broke"
                    )
                    found[check.name] = result
                    if on_result is not None:
                        on_result(result)
                continue
            for check, result in zip(mine, pool.map(one, mine), strict=True):
                found[check.name] = result
                if result.status is Status.FAILED and broken is None:
                    broken = rung
            hung = 0
    return [found[check.name] for check in selected]
