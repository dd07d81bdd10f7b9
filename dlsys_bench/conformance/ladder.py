"""Climb the ladder: run the checks rung by rung, until one rung breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, RUNGS, Check
from dlsys_bench.conformance.finding import Fault
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import Runner
from dlsys_bench.errors import UserError, count_of, nearest

assert checks  # Importing them registers them.

TIMEOUTS = 3
"""The number of timeouts on one rung after which its other checks are not run: an engine that hangs
in one check hangs in the next."""

ResultCallback = Callable[[CheckResult], None]


def select(names: Sequence[str] | None) -> list[Check]:
    """Return the checks of these names, each a check or a rung; all checks for no names.

    Raises UserError for an unknown name, with the nearest known one.
    """
    if not names:
        return list(CHECKS.values())
    for name in names:
        if name not in CHECKS and name not in RUNGS:
            known = [*RUNGS, *CHECKS]
            raise UserError(
                f"unknown check {name!r}{nearest(name, known)}; "
                f"known: {', '.join(RUNGS)}, or one such as {known[-1]!r}"
            )
    return [check for check in CHECKS.values() if check.name in names or check.rung in names]


def climb(
    runners: Sequence[Runner],
    selected: Sequence[Check],
    *,
    beyond: bool = False,
    on_result: ResultCallback | None = None,
) -> list[CheckResult]:
    """Run checks, as many at a time as there are runners, and return their results in order.

    The rung of a check that fails is finished; the rungs above it are not reached, unless the climb
    goes `beyond`. `on_result` gets each result as its check ends.
    """
    found: dict[str, CheckResult] = {}
    broken: str | None = None
    with ThreadPoolExecutor(len(runners)) as pool:
        free: SimpleQueue[Runner] = SimpleQueue()
        for runner in runners:
            free.put(runner)
        for rung in RUNGS:
            on_rung = [check for check in selected if check.rung == rung]
            if broken is not None and not beyond:
                results = [_not_reached(check, f"the rung {broken} broke") for check in on_rung]
                for result in results:
                    if on_result is not None:
                        on_result(result)
            else:
                results = list(pool.map(_Rung(free, on_result).run, on_rung))
            found |= {result.name: result for result in results}
            if broken is None and any(result.status is Status.FAILED for result in results):
                broken = rung
    return [found[check.name] for check in selected]


class _Rung:
    """The checks on one rung, which share the free runners and the count of timeouts."""

    def __init__(self, free: SimpleQueue[Runner], on_result: ResultCallback | None) -> None:
        self.free, self.on_result = free, on_result
        self.timeouts, self.lock = 0, threading.Lock()

    def run(self, check: Check) -> CheckResult:
        """Run a check on the next free runner, unless too many have timed out."""
        runner = self.free.get()
        try:
            if self.timeouts >= TIMEOUTS:
                result = _not_reached(
                    check, f"{count_of(self.timeouts, 'earlier check')} on this rung timed out"
                )
            else:
                result = runner.run(check.name)
        finally:
            self.free.put(runner)
        if result.finding is not None and result.finding.fault is Fault.TIMEOUT:
            with self.lock:
                self.timeouts += 1
        if self.on_result is not None:
            self.on_result(result)
        return result


def _not_reached(check: Check, reason: str) -> CheckResult:
    return CheckResult.of(check, Status.NOT_REACHED, reason=reason)
