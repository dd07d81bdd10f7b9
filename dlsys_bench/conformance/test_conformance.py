"""The checks as tests: pytest --pyargs dlsys_bench.conformance --dlsys-engine NAME."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from dlsys_bench.conformance.check import RUNGS
from dlsys_bench.conformance.engine_checks import make_runner, report_to_pytest
from dlsys_bench.conformance.ladder import reason_to_stop, select
from dlsys_bench.conformance.result import CheckResult
from dlsys_bench.conformance.runner import Runner
from dlsys_bench.conformance.staleness import run_and_judge
from dlsys_bench.conformance.trial import Options

ENV_ENGINE = "DLSYS_BENCH_ENGINE"


class Climb:
    """A climb of the ladder, one test after the other, that skips what is above a broken rung."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.results: list[CheckResult] = []

    def test(self, name: str) -> None:
        """Run the check of this name, unless a lower rung broke."""
        rung = name.partition("/")[0]
        for lower in RUNGS[: RUNGS.index(rung)]:
            if reason := reason_to_stop(lower, [r for r in self.results if r.rung == lower]):
                pytest.skip(f"not reached: {reason}")
        result = run_and_judge(self.runner, name)
        self.results.append(result)
        report_to_pytest(result)


@pytest.fixture(scope="module")
def climb(pytestconfig: pytest.Config) -> Iterator[Climb]:
    runner = _runner(pytestconfig)
    yield Climb(runner)
    runner.close()


def _runner(config: pytest.Config) -> Runner:
    engines = config.getoption("dlsys_engine")
    name = engines[0] if engines else os.environ.get(ENV_ENGINE, "numpy")
    options = Options(
        seed=config.getoption("dlsys_seed"), seconds=config.getoption("dlsys_seconds")
    )
    return make_runner(name, config.getoption("dlsys_device"), options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate one test for each check in each dtype of the engine."""
    runner = _runner(metafunc.config)
    with contextlib.closing(runner):
        metafunc.parametrize("name", [check.name for check in select(None, runner.dtypes())])


def test_conformance(climb: Climb, name: str) -> None:
    climb.test(name)
