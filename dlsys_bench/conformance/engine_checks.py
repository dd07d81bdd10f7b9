"""Put an engine through the checks from Python, or from a project's own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from dlsys_bench.conformance.check import Check
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import DEFAULTS, LocalRunner, Runner, replay_command
from dlsys_bench.conformance.staleness import run_and_judge
from dlsys_bench.conformance.trial import EngineFactory, Options
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.dtypes import default_dtype
from dlsys_bench.errors import UserError, count_of

EngineLike = str | Engine | type[Engine]
"""An engine, its class, or its name: "torch", "package.module:Class"."""


class CheckError(AssertionError):
    """An engine did not pass every check. `results` has the result of every check."""

    def __init__(self, results: Sequence[CheckResult]) -> None:
        failed = [result for result in results if result.finding is not None]
        beyond = sum(result.status is Status.NOT_REACHED for result in results)
        lines = [result.message() for result in failed]
        lines += [f"not reached, on higher rungs: {count_of(beyond, 'check')}"] if beyond else []
        super().__init__("\n".join(lines))
        self.results = results


class NotConformingError(CheckError):
    """An engine failed a check."""


class TimedOutError(CheckError):
    """No check failed, but one was ended at its time limit, so that there is no verdict."""


def check_engine(
    engine: EngineLike,
    on_fail: Literal["raise", "collect"] = "raise",
    *,
    checks: Sequence[str] | None = None,
    device: str = "cpu",
    options: Options = DEFAULTS,
    beyond: bool = False,
) -> list[CheckResult]:
    """Put an engine through the ladder, or through the checks and rungs that are named.

    An engine that is given by its name runs in a worker process, in which it may hang or crash; an
    object runs in this process. `beyond` continues above a rung that breaks. Raises
    NotConformingError with every finding, or TimedOutError if no check failed but one timed out,
    unless `on_fail` is "collect".
    """
    if on_fail not in ("raise", "collect"):
        raise UserError(f'on_fail is {on_fail!r}; expected "raise" or "collect"')
    runner = make_runner(engine, device, options)
    try:
        results = climb([runner], select(checks, runner.dtypes()), beyond=beyond)
    finally:
        runner.close()
    statuses = {result.status for result in results}
    if on_fail == "raise" and Status.FAILED in statuses:
        raise NotConformingError(results)
    if on_fail == "raise" and Status.TIMEOUT in statuses:
        raise TimedOutError(results)
    return results


def make_runner(engine: EngineLike, device: str = "cpu", options: Options = DEFAULTS) -> Runner:
    """Return the runner of the checks of an engine: a worker process for a name."""
    if isinstance(engine, str):
        return ProcessRunner(engine, device, options)
    target = _target(engine if isinstance(engine, type) else type(engine))
    command = target and replay_command(target, device)
    return LocalRunner(_factory(engine, device), options, command=command)


def _factory(engine: Engine | type[Engine], device: str) -> EngineFactory:
    """Return a factory of engines of the given class, or of the class of the given engine."""
    created: dict[str, Engine] = {}

    def make(dtype: str) -> Engine:
        if not isinstance(engine, type) and dtype in ("", engine.dtype):
            return engine
        if dtype not in created:
            cls, where = (
                (engine, device) if isinstance(engine, type) else (type(engine), engine.device)
            )
            created[dtype] = cls(where, dtype or default_dtype(cls.dtypes))
        return created[dtype]

    return make


def _target(cls: type[Engine]) -> str | None:
    """Return the name by which another process can import a class, or None if it cannot."""
    if cls.__module__ == "__main__" or "<" in cls.__qualname__:
        return None
    return f"{cls.__module__}:{cls.__qualname__}"


def report_to_pytest(result: CheckResult) -> None:
    """Skip or fail the current test as a check's result says."""
    if result.status is Status.DECLARED:
        pytest.skip(f"declared: {result.reason}")
    if result.status is Status.FAILED:
        pytest.fail(result.message(), pytrace=False)
    if result.status is Status.TIMEOUT:
        pytest.fail(f"timed out, which is no verdict: {result.message()}", pytrace=False)


def parametrize_with_checks(
    engines: Sequence[EngineLike], checks: Sequence[str] | None = None
) -> Callable[[Any], Any]:
    """Return a decorator that parametrises a test over engines and checks.

    The argument `check` of the test is called to run the check::

        @parametrize_with_checks([MyEngine])
        def test_my_engine(check):
            check()

    The test is skipped, with the reason, if the engine declares that it lacks what a check needs.
    """
    params = []
    for engine in engines:
        runner = make_runner(engine)
        default = getattr(engine, "__name__", type(engine).__name__)
        label = engine if isinstance(engine, str) else default
        params += [
            pytest.param(_bound(runner, check), id=f"{label}-{check.name}")
            for check in select(checks, runner.dtypes())
        ]
    return pytest.mark.parametrize("check", params)


def _bound(runner: Runner, check: Check) -> Callable[[], None]:
    return lambda: report_to_pytest(run_and_judge(runner, check.name))
