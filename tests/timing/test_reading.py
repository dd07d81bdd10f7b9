"""The rounds of a benchmark contain the work of a framework that returns before it is done.

The device and the clock are simulated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.timing import reading
from dlsys_bench.timing.benchmark import TrainBenchmark
from dlsys_bench.timing.reading import UnfinishedWorkError, read_loss, read_losses

LAUNCH, WORK = 1e-5, 1e-3
"""The seconds after which a step returns, and after which its work is done."""


class Device:
    """A device with a queue, and the clock of its host. A loss of step n is 1 / n."""

    def __init__(self) -> None:
        self.now = self.free = 0.0
        self.steps = 0

    def step(self) -> Pending:
        """Put an update into the queue."""
        self.steps += 1
        self.now += LAUNCH
        self.free = max(self.free, self.now) + WORK
        return Pending(self, self.free, 1 / self.steps)

    def synchronize(self) -> None:
        """Wait until the queue is empty."""
        self.now = max(self.now, self.free)


class Pending:
    """A loss that is computed on the device."""

    def __init__(self, device: Device, due: float, value: float) -> None:
        self.device, self.due, self.value = device, due, value

    def __float__(self) -> float:
        self.device.now = max(self.device.now, self.due)
        return self.value


class Lazy(Pending):
    """A loss that is computed each time it is read."""

    def __float__(self) -> float:
        self.device.now += WORK
        return self.value


class Fixture:
    """A fixture that offers `pedantic`, and nothing else."""

    def pedantic(self, function: Callable[[], object], rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds):
            function()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    found = Device()
    monkeypatch.setattr(time, "perf_counter", lambda: found.now)
    return found


def run(step: Callable[[], Any], **options: Any) -> dict[str, Any]:
    benchmark = TrainBenchmark(Fixture())
    benchmark(step, samples=1, steps=5, rounds=4, **options)
    return benchmark.info


def test_rounds_that_end_before_their_steps_ask_for_synchronize(device: Device) -> None:
    with pytest.raises(UnfinishedWorkError, match="99% of the time .* pass synchronize=FUNCTION"):
        run(device.step)


def test_short_steps_that_are_not_done_are_found(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the work takes less time than the conversion of as many losses may take."""
    monkeypatch.setattr("test_reading.WORK", 5e-5)
    monkeypatch.setattr("test_reading.LAUNCH", 1e-6)
    with pytest.raises(UnfinishedWorkError):
        run(device.step)


def test_rounds_that_wait_contain_the_work(device: Device) -> None:
    info = run(device.step, synchronize=device.synchronize)
    assert info["microseconds_per_step"] == pytest.approx(1e6 * WORK, rel=0.01)
    assert info["first_step_seconds"] == pytest.approx(LAUNCH + WORK)


def test_a_synchronize_that_does_not_wait_is_reported(device: Device) -> None:
    with pytest.raises(UnfinishedWorkError, match=r"synchronize\(\) has to wait"):
        run(device.step, synchronize=lambda: None)


def test_losses_that_are_computed_when_they_are_read_are_reported(device: Device) -> None:
    def step() -> Lazy:
        pending = device.step()
        device.synchronize()
        return Lazy(device, pending.due, pending.value)

    with pytest.raises(UnfinishedWorkError):
        run(step)


def test_a_single_delay_while_losses_are_read_is_no_finding(device: Device) -> None:
    class Delayed(Pending):
        def __float__(self) -> float:
            # The losses are read once with the first step, and again after the rounds.
            if self.value == 1 / 20 and device.free < 1:
                device.free += 1
                device.now += 1
            return self.value

    def step() -> Delayed:
        pending = device.step()
        device.synchronize()
        return Delayed(device, pending.due, pending.value)

    assert run(step)["loss_last"] == 1 / 26
    assert device.free > 1


def test_a_framework_that_computes_at_once_is_accepted(device: Device) -> None:
    def step() -> float:
        device.step()
        device.synchronize()
        return 1 / device.steps

    assert run(step)["samples_per_second"] == pytest.approx(1 / (LAUNCH + WORK))


@pytest.mark.parametrize("loss", [2, 2.0, np.float32(2), np.array([2.0]), np.array([[2]])])
def test_a_loss_is_one_number(loss: Any) -> None:
    assert read_loss(loss) == 2.0


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (None, "returned a NoneType; it has to return the loss, a number"),
        ("2.0", "returned a str"),
        ([2.0], "returned a list"),
        ({"loss": 2.0}, "returned a dict"),
        (np.zeros(3), r"returned an array of shape \(3,\)"),
        (2.0 + 1j, "returned a complex"),
    ],
)
def test_a_loss_that_is_no_number_raises(loss: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_loss(loss)


@pytest.mark.parametrize(
    ("stats", "seconds"),
    [
        (SimpleNamespace(stats=SimpleNamespace(median=3.0)), 3.0),
        (SimpleNamespace(median=2.0), 2.0),
        (SimpleNamespace(), 5 * (LAUNCH + WORK)),
        (None, None),
    ],
)
def test_the_rates_are_those_of_the_fixture_or_of_the_rounds(
    stats: Any, seconds: float | None, device: Device
) -> None:
    fixture = Fixture()
    fixture.stats = stats  # type: ignore[attr-defined]
    benchmark = TrainBenchmark(fixture)

    def step() -> float:
        device.step()
        device.synchronize()
        return 1 / device.steps

    benchmark(step, samples=1, steps=5, rounds=4)
    found = benchmark.info.get("microseconds_per_step")
    assert found == (None if seconds is None else pytest.approx(1e6 * seconds / 5))


def test_a_fixture_without_pedantic_raises() -> None:
    with pytest.raises(UserError, match="is an object without the method pedantic"):
        TrainBenchmark(object())(lambda: 1.0, samples=1)


def test_weights_that_are_no_function_raise() -> None:
    with pytest.raises(UserError, match="weights is a dict; expected a function"):
        TrainBenchmark(Fixture())(lambda: 1.0, samples=1, weights={})  # type: ignore[arg-type]


def test_numbers_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a microsecond take as long as reading nothing does."""
    monkeypatch.setattr(reading, "_seconds_of_reading", lambda losses: 1.0)
    assert read_losses([3, 2.5, np.float32(0.5), np.array([1.0])]).waited == 0.0
