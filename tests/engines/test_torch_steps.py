"""Updates that are recorded once and replayed. On a CPU, a tape stands in for the CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import unavailable
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

if reason := unavailable("torch"):
    pytest.skip(reason, allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dlsys_bench.engines.torch import TorchEngine
from dlsys_bench.engines.torch.steps import Recorded

MODEL = to_convention(
    "torch",
    Model(
        "m",
        (6, 6, 1),
        (
            Conv2D(3, (3, 3)),
            Activation("tanh"),
            BatchNorm(moving_decay=0.8),
            AveragePool((2, 2)),
            Flatten(),
            Dropout(0.3),
            Dense(4),
        ),
    ),
)
RECIPE = Recipe(SGD(0.05), batch_size=4, epochs=3)
OPTIMIZERS = {
    "sgd": SGD(0.05),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "adam": Adam(0.01),
    "rmsprop": RMSprop(0.01),
    "adamw": Adam(0.01, decay=WeightDecay(0.5)),
    "decoupled": SGD(0.05, momentum=0.9, decay=WeightDecay(0.5)),
}


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record every operation with the tensors that it read and wrote."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result


class TapeRecorder:
    """Replay only the operations, on the memory that they used, as a CUDA graph does."""

    recorded = replayed = 0

    def rehearse(self, step: Callable[[], None]) -> None:
        step()

    def record(self, step: Callable[[], None]) -> Recorded:
        self.recorded += 1
        with Tape() as tape:
            step()
        # Unlike a graph, the step has run while it was recorded, so the first launch does nothing.
        ran = True

        def again() -> None:
            nonlocal ran
            self.replayed += 1
            if not ran:
                with torch.no_grad():
                    for func, args, kwargs, result in tape.operations:
                        _write(result, func(*args, **kwargs))
            ran = False

        return again


def _write(place: Any, values: Any) -> None:
    if isinstance(place, torch.Tensor):
        if place.data_ptr() != values.data_ptr():
            place.copy_(values)
    elif isinstance(place, tuple | list):
        for one, value in zip(place, values, strict=True):
            _write(one, value)


class TapedEngine(TorchEngine):
    def recorder(self) -> TapeRecorder:
        self.tape = TapeRecorder()
        return self.tape


def samples(count: int = 30) -> Samples:
    generator = np.random.default_rng(3)
    return Samples(
        generator.standard_normal((count, 6, 6, 1)).astype("float32"),
        generator.integers(0, 4, count),
    )


def assert_same(recipe: Recipe, plan: Plan, data: Samples, recorded: int) -> None:
    found = []
    for engine in (TorchEngine(), taped := TapedEngine()):
        net = engine.build(MODEL, seed=5)
        history = train(engine, net, data, to_convention("torch", recipe), plan)
        found.append((engine.weights(net), history))
    (right, expected), (weights, history) = found
    for name, tensor in right.items():
        np.testing.assert_allclose(weights[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)
    for one, other in zip(history, expected, strict=True):
        assert one.running_loss == pytest.approx(other.running_loss, rel=1e-4)
        assert one.running_accuracy == other.running_accuracy
        assert (one.by_step is None) == (other.by_step is None)
        if one.by_step is not None and other.by_step is not None:
            assert one.by_step["loss"] == pytest.approx(other.by_step["loss"], rel=1e-4)
    assert taped.tape.recorded == recorded
    assert taped.tape.replayed >= 10


@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_recorded_step_is_the_update(optimizer: Optimizer, parity: bool) -> None:
    # There are seven batches of four; the eighth, of two, is too rare to be recorded.
    assert_same(replace(RECIPE, optimizer=optimizer), Plan(2, parity=parity), samples(), 1)


def test_what_surrounds_the_optimizer() -> None:
    around = replace(RECIPE, clip=ClipNorm(0.1), accumulate=2, average=WeightAverage(0.8))
    assert_same(around, Plan(2, parity=True), samples(), 1)


def test_learning_rates_and_batch_sizes_that_change() -> None:
    moving = replace(
        RECIPE,
        schedule=CyclicalLearningRate(0.001, 0.2, step_size=3),
        batch_sizes=CyclicalBatchSize(2, 4),
        epochs=4,
    )
    # There are batches of two, three and four, and the rest at the end of an epoch.
    assert_same(moving, Plan(2), samples(60), 4)


def test_a_limit_on_the_steps() -> None:
    assert_same(replace(RECIPE, steps=17), Plan(2), samples(), 1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.05, 0.2)])
@pytest.mark.parametrize("parity", [True, False])
def test_replicas(rates: tuple[float, float], shuffle: bool, parity: bool) -> None:
    recipes = [
        to_convention("torch", replace(RECIPE, optimizer=SGD(rate), shuffle=shuffle))
        for rate in rates
    ]
    plans = [Plan(seed, parity=parity) for seed in (0, 1)]
    found = []
    for engine in (TorchEngine(), taped := TapedEngine()):
        replicas = engine.replicate(MODEL, plans)
        histories = train_replicas(replicas, samples(), recipes, plans)
        found.append((replicas, histories))
    (right, expected), (replicas, histories) = found
    for replica in (0, 1):
        for name, tensor in right.weights(replica).items():
            np.testing.assert_allclose(
                replicas.weights(replica)[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name
            )
        for one, other in zip(histories[replica], expected[replica], strict=True):
            assert one.running_loss == pytest.approx(other.running_loss, rel=1e-4)
            assert one.running_accuracy == other.running_accuracy
    assert taped.tape.recorded == 1
    assert taped.tape.replayed >= 10
