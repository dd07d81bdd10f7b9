"""Climb the ladder: run the checks rung by rung, until one rung breaks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from queue import SimpleQueue

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import AT, RUNGS, Check, in_dtypes
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import Runner
from dlsys_bench.conformance.staleness import run_and_judge
from dlsys_bench.engines.dtypes import by_precision
from dlsys_bench.errors import UserError, count_of, nearest

assert checks  # Importing them registers them.

TIMEOUTS = 3
"""The number of timeouts on one rung after which its other checks, and the rungs above it, are not
run: an engine that hangs in one check hangs in the next."""

ResultCallback = Callable[[CheckResult], None]


def select(names: Sequence[str] | None, dtypes: Sequence[str] = ()) -> list[Check]:
    """Return the checks of these names, in the dtypes of an engine; all of them for no names.

    A name is a rung, which stands for all its checks, a check with or without a dtype, or a pattern
    with wildcards as in a shell. Raises UserError for an unknown name, with the nearest known one.
    """
    checks = in_dtypes(dtypes)
    if not names:
        return list(checks.values())
    wanted: set[str] = set()
    for name in names:
        found = _matching(name, checks, dtypes)
        if not found:
            known = [*RUNGS, *checks]
            raise UserError(
                f"unknown check {name!r}{nearest(name, known)}; "
                f"known: {', '.join(RUNGS)}, or one such as {known[-1]!r}"
            )
        wanted |= found
    return [check for check in checks.values() if check.name in wanted]


def _matching(name: str, checks: Mapping[str, Check], dtypes: Sequence[str]) -> set[str]:
    """Return the names of the checks that a name selects."""
    highest = f"{AT}{by_precision(dtypes)[0]}" if dtypes else ""
    plain = name.removesuffix(highest)  # The check of the highest precision has no suffix.
    return {
        check.name
        for check in checks.values()
        if plain in (check.name, check.rung) or fnmatchcase(check.name, name)
    }


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
    reason: str | None = None
    with _workers(runners) as map_checks:
        free: SimpleQueue[Runner] = SimpleQueue()
        for runner in runners:
            free.put(runner)
        for rung in RUNGS:
            on_rung = [check for check in selected if check.rung == rung]
            if reason is not None and not beyond:
                results = [_not_reached(check, reason) for check in on_rung]
                for result in results:
                    if on_result is not None:
                        on_result(result)
            else:
                results = list(map_checks(_Rung(free, on_result).run, on_rung))
            found |= {result.name: result for result in results}
            reason = reason or reason_to_stop(rung, results)
    return [found[check.name] for check in selected]


@contextmanager
def _workers(runners: Sequence[Runner]) -> Iterator[Callable[..., Iterator[CheckResult]]]:
    """Yield a `map` that has a thread for each runner; a single one works in this thread, since
    hypothesis collects garbage when a thread first uses it.

    If the user interrupts the climb, the runners are closed, so that no thread waits for its check
    to end.
    """
    if len(runners) == 1:
        yield map
        return
    with ThreadPoolExecutor(len(runners)) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for runner in runners:
                runner.close()
            raise


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
                result = run_and_judge(runner, check.name)
        finally:
            self.free.put(runner)
        if result.status is Status.TIMEOUT:
            with self.lock:
                self.timeouts += 1
        if self.on_result is not None:
            self.on_result(result)
        return result


def reason_to_stop(rung: str, results: Sequence[CheckResult]) -> str | None:
    """Return the reason not to climb above a rung, or None."""
    if any(result.breaks for result in results):
        return f"the rung {rung} broke"
    if (timeouts := sum(result.status is Status.TIMEOUT for result in results)) >= TIMEOUTS:
        return f"{count_of(timeouts, 'check')} on the rung {rung} timed out"
    return None


def _not_reached(check: Check, reason: str) -> CheckResult:
    return CheckResult.of(check, Status.NOT_REACHED, reason=reason)
