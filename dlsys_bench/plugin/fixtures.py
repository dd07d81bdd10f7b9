"""The fixtures. Each imports what it needs when a test takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from dlsys_bench.plugin.cases import EngineCase

if TYPE_CHECKING:
    from dlsys_bench.plugin.gate import Judge
    from dlsys_bench.plugin.training_gate import AccuracyGate
    from dlsys_bench.timing.benchmark import TrainBenchmark
    from dlsys_bench.verdicts.verdict import Verdict


def is_gate(item: pytest.Item) -> bool:
    """Return True if a test takes a gate, and so may train and judge."""
    return "dlsys_judge" in getattr(item, "fixturenames", ())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the gates."""
    if is_gate(item):
        item.add_marker("gate")


@pytest.fixture(scope="session")
def dlsys_judge(request: pytest.FixtureRequest) -> Judge:
    """The judge of the session, which shares its false-alarm rate over every collected gate."""
    from dlsys_bench.plugin.gate import Judge

    return Judge(request.config, sum(map(is_gate, request.session.items)))


@pytest.fixture
def dlsys_gate(
    request: pytest.FixtureRequest, dlsys_judge: Judge
) -> Callable[[EngineCase], Verdict]:
    """A function that trains a case, and fails the test if the case is outside its band.

    A case that cannot be judged is skipped with the reason.
    """
    return lambda case: dlsys_judge.settle(
        request, lambda: [dlsys_judge.judge_in_test(case, request)]
    )[0]


@pytest.fixture
def accuracy_gate(request: pytest.FixtureRequest, dlsys_judge: Judge) -> AccuracyGate:
    """A function that trains any callable and compares it with its reference runs.

    See dlsys_bench.plugin.training_gate.AccuracyGate.
    """
    from dlsys_bench.plugin.training_gate import AccuracyGate

    return AccuracyGate(request, dlsys_judge)


@pytest.fixture
def train_benchmark(benchmark: Any) -> TrainBenchmark:
    """A function that measures a training step, and fails unless the step trains.

    See dlsys_bench.timing.benchmark.TrainBenchmark.
    """
    from dlsys_bench.timing.benchmark import TrainBenchmark

    return TrainBenchmark(benchmark)
