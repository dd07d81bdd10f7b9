"""The precision of products in torch: it is rounded as requested, only during a training step, and
for no other part of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
)
from dlsys_bench.spec.losses import SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

if reason := unavailable("torch"):
    pytest.skip(reason, allow_module_level=True)

import torch

from dlsys_bench.engines.torch import TorchEngine, TorchTF32Engine, modules
from dlsys_bench.engines.torch.precision import product_precision

MODEL = to_convention(
    "torch",
    Model(
        "m",
        (8, 8, 2),
        (
            BatchNorm(),
            Conv2D(4, (3, 3)),
            Activation("tanh"),
            AveragePool((2, 2)),
            Dropout(0.2),
            Flatten(),
            Dense(6),
            Activation("sigmoid"),
            Dense(3),
        ),
    ),
)
RECIPE = to_convention(
    "torch", Recipe(SGD(0.1), batch_size=8, epochs=3, loss=SparseCategoricalCrossEntropy())
)
GENERATOR = np.random.default_rng(0)
SAMPLES = Samples(
    GENERATOR.standard_normal((40, 8, 8, 2)).astype("float32"), GENERATOR.integers(0, 3, 40)
)
ROUNDED = 2.0**-9
"""The relative rounding error of bfloat16."""


def deviation(found: Array, right: Array) -> float:
    return float(np.abs(found - right).max() / np.abs(right).max())


def test_bfloat16_gradients_differ_by_no_more_than_rounding() -> None:
    rounding, right = create("torch-bf16"), create("numpy", dtype="float64")
    weights = rounding.weights(rounding.build(MODEL, seed=3))
    batch = Batch(SAMPLES.x, SAMPLES.y, Plan(1).masks(MODEL, 0, 40), training=True)
    nets = rounding.build(MODEL, weights), right.build(MODEL, weights)
    ours, true = (
        engine.gradients(net, batch, RECIPE.loss)
        for engine, net in zip((rounding, right), nets, strict=True)
    )
    # Each value has been rounded several times. Most errors average out, but the largest may not.
    assert ours.loss == pytest.approx(true.loss, rel=4 * ROUNDED)
    for name, tensor in true.weights.items():
        assert deviation(ours.weights[name], tensor) < 16 * ROUNDED, name
    assert ours.x is not None
    assert true.x is not None
    assert deviation(ours.x, true.x) < 16 * ROUNDED
    outputs = zip(rounding.trace(nets[0], batch), right.trace(nets[1], batch), strict=True)
    assert all(deviation(found, expected) < 8 * ROUNDED for found, expected in outputs)
    # It does round, in the forward pass and in the backward pass.
    assert deviation(ours.weights["dense_2.kernel"], true.weights["dense_2.kernel"]) > ROUNDED / 16
    assert {str(tensor.dtype) for tensor in (*ours.weights.values(), ours.x)} == {"float32"}


def test_bfloat16_training_differs_from_float32_by_no_more_than_rounding() -> None:
    found = {}
    for name in ("torch", "torch-bf16"):
        engine = create(name)
        net = engine.build(MODEL, seed=3)
        history = train(engine, net, SAMPLES, RECIPE, Plan(2, parity=True))
        found[name] = engine.weights(net), history[-1].running_loss
    (weights, loss), (rounded, rounded_loss) = found["torch"], found["torch-bf16"]
    assert rounded_loss == pytest.approx(loss, rel=8 * ROUNDED)
    assert all(deviation(rounded[name], tensor) < 16 * ROUNDED for name, tensor in weights.items())
    assert any((rounded[name] != tensor).any() for name, tensor in weights.items())


def test_replicas_round_as_a_single_network_does() -> None:
    """Their products may be added in another order, which depends on the CPU: both are near the
    training without rounding, and as near to each other."""
    plans, trained = [Plan(4, parity=True), Plan(5, parity=True)], {}
    for name in ("torch", "torch-bf16"):
        engine = create(name)
        trained[name] = engine.replicate(MODEL, plans)
        train_replicas(trained[name], SAMPLES, RECIPE, plans)
    for replica, plan in enumerate(plans):
        right, rounded = (each.weights(replica) for each in trained.values())
        net = engine.build(MODEL, plan.weights(MODEL))
        train(engine, net, SAMPLES, RECIPE, plan)
        for name, tensor in engine.weights(net).items():
            assert deviation(rounded[name], tensor) < 16 * ROUNDED, name
        assert any((rounded[name] != tensor).any() for name, tensor in right.items())


class HereTF32(TorchTF32Engine):
    devices = ("cpu",)


def switches() -> tuple[str, ...]:
    backends: Any = torch.backends
    return (
        backends.cuda.matmul.fp32_precision,
        backends.cudnn.conv.fp32_precision,
        backends.cudnn.rnn.fp32_precision,
    )


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch 2.9 or later")
@pytest.mark.parametrize(("engine", "inside"), [(TorchEngine(), "ieee"), (HereTF32(), "tf32")])
@pytest.mark.parametrize("many", [False, True])
def test_the_switches_of_the_process_are_set_only_during_steps(
    engine: Engine, inside: str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between epochs, and after the last one, the caller finds them as they were."""
    before, inside_steps, between = switches(), [], []

    def looking(x: torch.Tensor) -> torch.Tensor:
        inside_steps.append(switches())
        return x

    monkeypatch.setitem(modules.ACTIVATIONS, "tanh", lambda layer: Looking(looking))
    epochs: Iterable[object]
    if many:
        epochs = engine.replicate(MODEL, [Plan(1)]).fit(SAMPLES, RECIPE, [Plan(1)])
    else:
        epochs = engine.fit(engine.build(MODEL), SAMPLES, RECIPE, Plan(1))
    for _ in epochs:
        between.append(switches())  # noqa: PERF401
    assert set(inside_steps) == {(inside,) * 3}
    assert between == [before] * 3
    assert switches() == before != inside_steps[0]


def test_the_switches_are_restored_after_an_error() -> None:
    before = switches()
    with pytest.raises(ZeroDivisionError), product_precision("tf32"):
        raise ZeroDivisionError
    assert switches() == before


class Looking(torch.nn.Module):
    def __init__(self, looking: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.looking = looking

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.looking(x)


def test_only_products_are_rounded() -> None:
    """The outputs of products are bfloat16 numbers; the outputs of the other layers are not."""
    engine = create("torch-bf16")
    left = engine.trace(
        engine.build(MODEL, seed=1), Batch(SAMPLES.x, SAMPLES.y, {}, training=False)
    )
    of_products = {"conv2d", "dense"}
    for layer, output in zip(MODEL.layers, left, strict=True):
        rounded = np.array_equal(output, torch.from_numpy(output).bfloat16().float().numpy())
        assert rounded or layer.kind not in of_products
        assert not rounded or layer.kind in {*of_products, "dropout", "flatten"}


def test_tf32_is_for_cuda() -> None:
    with pytest.raises(EngineError, match='"torch-tf32" has no device .cpu.; it has cuda'):
        create("torch-tf32")


def test_double_precision_is_not_rounded() -> None:
    with pytest.raises(EngineError, match="has no dtype .float64."):
        create("torch-bf16", dtype="float64")
