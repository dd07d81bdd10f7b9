"""The numpy and numba engines train with subnormal numbers as zero, in the threads that train."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import subnormals
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import Stepper
from dlsys_bench.engines.numpy.shards import run_shards, run_threads
from dlsys_bench.engines.numpy.subnormals import KNOWN, flush_subnormals, subnormals_flushed
from dlsys_bench.engines.numpy.updates import NetworkUpdate
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer
from dlsys_bench.spec.recipe import Recipe

pytestmark = pytest.mark.skipif(not KNOWN, reason="subnormal numbers are kept on this platform")


def flushes(dtype: type = np.float32) -> bool:
    """Return whether this thread takes subnormal numbers for zero."""
    least = np.full(1, np.finfo(dtype).tiny)
    result, operand = least * dtype(0.5), np.full(1, np.finfo(dtype).smallest_subnormal)
    found = not result.any(), not (operand * dtype(2.0**60)).any()
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_zero_inside(dtype: type) -> None:
    assert not flushes(dtype)
    with subnormals_flushed():
        assert flushes(dtype)
        with subnormals_flushed():
            assert flushes(dtype)
        assert flushes(dtype)
    assert not flushes(dtype)
    with pytest.raises(KeyError), subnormals_flushed():
        raise KeyError
    assert not flushes(dtype)


def test_an_interrupt_leaves_no_setting_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def flush_and_stop() -> None:
        flush_subnormals()
        assert flushes()
        raise KeyboardInterrupt

    monkeypatch.setattr(subnormals, "flush_subnormals", flush_and_stop)
    with pytest.raises(KeyboardInterrupt), subnormals_flushed():
        pytest.fail("it is interrupted on entry")
    assert not flushes()


def test_the_other_threads_of_a_batch_take_them_for_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found: dict[int, bool] = {}

    def work(thread: int, count: int, broken: object) -> None:
        found[thread] = flushes()

    run_threads(work, 2)
    assert found == {0: False, 1: True}

    def shard(number: int) -> Generator[None, list[Any], int]:
        found[number] = flushes()
        yield
        return number

    found.clear()
    assert run_shards([shard(0), shard(1)]) == [0, 1]
    assert found == {0: False, 1: True}


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_a_training_takes_them_for_zero(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    model = Model("scaled", (1,), (Dense(1, use_bias=False),))
    # The output is 0.01, or 0 if the kernel is taken for zero.
    weights = {"dense_1.kernel": np.full((1, 1), 1e-40, np.float32)}
    samples = Samples(np.full((4, 1), 1e38, np.float32), np.zeros((4, 1), np.float32))
    recipe = Recipe(SGD(0.0), batch_size=4, epochs=1, loss=MeanSquaredError())
    (epoch,) = train(engine, engine.build(model, weights), samples, recipe, Plan(1))
    assert epoch.running_loss == 0
    assert not flushes()


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.01, 0.9)], ids=str)
def test_moments_without_a_gradient_become_zero(
    optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be subnormal after some 800 updates."""
    steppers: list[Any] = []
    before = NetworkUpdate.__init__

    def kept(self: NetworkUpdate, net: Network, recipe: Recipe, stepper: Stepper[Any]) -> None:
        steppers.append(stepper)
        before(self, net, recipe, stepper)

    monkeypatch.setattr(NetworkUpdate, "__init__", kept)
    engine = create("numpy")
    x = np.zeros((1000, 2), np.float32)
    x[:, 0], x[0, 1] = 1, 1
    recipe = Recipe(optimizer, batch_size=1, epochs=1, shuffle=False, loss=MeanSquaredError())
    net = engine.build(Model("dead pixel", (2,), (Dense(1),)), seed=1)
    train(engine, net, Samples(x, np.ones((1000, 1), np.float32)), recipe, Plan(1))
    (stepper,) = steppers
    moments = stepper.mean if isinstance(optimizer, Adam) else stepper.velocity
    assert moments[0, 1] == 0
