"""The check that trains networks on several threads, with engines that bear it and that do not."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from threading import Lock
from typing import Any

import numpy as np
import pytest

from dlsys_bench import check_engine
from dlsys_bench.conformance.checks import threads
from dlsys_bench.conformance.finding import Fault
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.optimizers import AdamStepper, SGDStepper

LOCK = Lock()
BUFFER = np.empty(100_000)
LAST: list[Any] = []


class TrainsOneAfterAnother(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Generator[Epoch]:
        with LOCK:
            yield from super().fit(*args, **options)


class LocksAnEpoch(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Generator[Epoch]:
        epochs = super().fit(*args, **options)
        while True:
            with LOCK:
                epoch = next(epochs, None)
            if epoch is None:
                return
            yield epoch


class IsSlow(NumpyEngine):
    def fit(self, *args: Any, **options: Any) -> Generator[Epoch]:
        for epoch in super().fit(*args, **options):
            time.sleep(0.02)
            yield epoch


class ReturnsTheLastNetwork(NumpyEngine):
    """It keeps the weights of a training in a global variable, from one line to the next."""

    def fit(self, net: Any, *args: Any, **options: Any) -> Generator[Epoch]:
        for epoch in super().fit(net, *args, **options):
            LAST[:] = [net.parameters.copy()]
            if LAST[0].shape == net.parameters.shape:
                net.parameters[...] = LAST[0]
            yield epoch


class FailsBesideAnother(NumpyEngine):
    trainings = 0

    def fit(self, *args: Any, **options: Any) -> Generator[Epoch]:
        for epoch in super().fit(*args, **options):
            type(self).trainings += 1
            if self.trainings == 6:
                raise RuntimeError("the device is out of memory")
            yield epoch


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "UNASKED", 0.5)
    monkeypatch.setattr(threads, "ROUNDS", 1)


def run(engine: type[Engine]) -> CheckResult:
    (result,) = check_engine(engine, "collect", checks=["determinism/threads"])
    return result


HEALTHY = pytest.mark.rotates("healthy engines on threads", 2)


@HEALTHY
@pytest.mark.parametrize("engine", [NumpyEngine, LocksAnEpoch, IsSlow])
def test_a_healthy_engine_passes(engine: type[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WAITED", 0.5)
    before = sys.gettrace(), sys.getswitchinterval()
    assert run(engine).status is Status.PASSED
    assert (sys.gettrace(), sys.getswitchinterval()) == before


@HEALTHY
def test_an_engine_that_trains_one_network_after_another_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The other training holds the lock for which the first one waits."""
    monkeypatch.setattr(threads, "MOST_UPDATES", 60)
    assert run(TrainsOneAfterAnother).status is Status.PASSED


def test_a_value_that_is_shared_from_one_line_to_the_next_is_found() -> None:
    result = run(ReturnsTheLastNetwork)
    assert result.finding is not None
    assert result.finding.fault is Fault.SIDE_EFFECT
    assert "differs if a network is trained on another thread" in result.message()


def test_memory_that_is_shared_in_compiled_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(weights: Any) -> None:
        mine = BUFFER[: weights.size].reshape(weights.shape)
        np.copyto(mine, weights)
        time.sleep(2e-4)
        np.copyto(weights, mine)

    for stepper in (AdamStepper, SGDStepper):

        def step(self: Any, weights: Any, *args: Any, real: Any = stepper.step) -> None:
            real(self, weights, *args)
            exchange(weights)

        monkeypatch.setattr(stepper, "step", step)
    # As if no line of it were Python.
    monkeypatch.setattr(threads, "_compare_lines", lambda *_: None)
    result = run(NumpyEngine)
    assert result.finding is not None
    assert result.finding.fault is Fault.SIDE_EFFECT


def test_an_error_of_the_engine_is_reported() -> None:
    result = run(FailsBesideAnother)
    assert "the device is out of memory" in result.message()


def test_an_engine_without_threads_declares_the_check() -> None:
    class Alone(NumpyEngine):
        threaded = False

    assert run(Alone).status is Status.DECLARED
