"""Put an engine through the checks from Python, or from a test of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import (
    DEFAULTS,
    EngineFactory,
    LocalRunner,
    Options,
    ProcessRunner,
    Runner,
    replay_command,
)
from dlsys_bench.engines.base import Engine
from dlsys_bench.errors import UserError

Given = str | Engine | type[Engine]


class NotConformingError(AssertionError):
    """An engine that failed; `results` has every check."""

    def __init__(self, results: Sequence[CheckResult]) -> None:
        failed = [result for result in results if result.status is Status.FAILED]
        beyond = sum(result.status is Status.NOT_REACHED for result in results)
        told = "\n".join(result.message() for result in failed)
        super().__init__(told + (f"\n{beyond} checks above were not reached" if beyond else ""))
        self.results = results


def check_engine(
    engine: Given,
    on_fail: Literal["raise", "collect"] = "raise",
    *,
    checks: Sequence[str] | None = None,
    device: str = "cpu",
    options: Options = DEFAULTS,
    beyond: bool = False,
) -> list[CheckResult]:
    """Put an engine through the ladder, or through the checks and rungs that are named.

    `engine` is an instance, a class, or a name: "torch", "package.module:Class". What is named runs
    in a process of its own, where it may hang or crash; an object runs here. `beyond` goes on above
    a rung that breaks. Errors: NotConformingError with every finding, unless failures are to be
    collected.
    """
    if on_fail not in ("raise", "collect"):
        raise UserError(f'on_fail is {on_fail!r}; it takes "raise" or "collect"')
    runner = make_runner(engine, device, options)
    try:
        results = climb([runner], select(checks), beyond=beyond)
    finally:
        runner.close()
    if on_fail == "raise" and any(result.status is Status.FAILED for result in results):
        raise NotConformingError(results)
    return results


def make_runner(engine: Given, device: str = "cpu", options: Options = DEFAULTS) -> Runner:
    """Where the checks of this engine run."""
    if isinstance(engine, str):
        return ProcessRunner(engine, device, options)
    target = _target(engine if isinstance(engine, type) else type(engine))
    return LocalRunner(_make(engine, device), options, target and replay_command(target, device))


def _make(engine: Engine | type[Engine], device: str) -> EngineFactory:
    if isinstance(engine, type):
        made: dict[str, Engine] = {}

        def make(dtype: str) -> Engine:
            if dtype not in made:
                made[dtype] = engine(device, dtype) if dtype else engine(device)
            return made[dtype]

        return make

    def of_its_kind(dtype: str) -> Engine:
        return engine if dtype in ("", engine.dtype) else type(engine)(engine.device, dtype)

    return of_its_kind


def _target(cls: type[Engine]) -> str | None:
    """What names a class from elsewhere, if anything does."""
    return (
        None
        if cls.__module__ == "__main__" or "<" in cls.__qualname__
        else f"{cls.__module__}:{cls.__qualname__}"
    )


def parametrize_with_checks(
    engines: Sequence[Given], checks: Sequence[str] | None = None
) -> Callable[[Any], Any]:
    """Parametrise a test over engines and checks, as its argument `check`, which is called:

        @parametrize_with_checks([MyEngine])
        def test_my_engine(check):
            check()

    A check that the engine declares it lacks skips the test, with the reason.
    """
    import pytest

    def one(engine: Given, runner: Runner, name: str) -> Callable[[], None]:
        def check() -> None:
            result = runner.run(name)
            if result.status is Status.DECLARED:
                pytest.skip(f"declared: {result.reason}")
            if result.status is Status.FAILED:
                pytest.fail(result.message(), pytrace=False)

        return check

    params = []
    for engine in engines:
        runner = make_runner(engine)
        told = (
            engine
            if isinstance(engine, str)
            else getattr(engine, "__name__", type(engine).__name__)
        )
        params += [
            pytest.param(one(engine, runner, check.name), id=f"{told}-{check.name}")
            for check in select(checks)
        ]
    return pytest.mark.parametrize("check", params)
