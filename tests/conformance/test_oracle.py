"""The oracle itself, against torch's autodiff and optimisers and against derivatives by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from drawn_networks import normalises_several_values
from hypothesis import assume, given

from dlsys_bench import strategies
from dlsys_bench.conformance.checks.training import compare_trainings
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.oracle import forward as oracle_forward
from dlsys_bench.conformance.oracle import functions as oracle_functions
from dlsys_bench.conformance.oracle import losses as oracle_losses
from dlsys_bench.conformance.oracle import optimizers as oracle_optimizers
from dlsys_bench.conformance.oracle.optimizers import UPDATES
from dlsys_bench.conformance.runner import engine_factory
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.clipping import CLIPS
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import DECAYING
from dlsys_bench.spec.layers import FUNCTIONS, LAYERS, Dense
from dlsys_bench.spec.losses import LOSSES, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.strategies import Example

ORACLE = Oracle()


@pytest.mark.parametrize(
    ("records", "definitions"),
    [
        pytest.param(LAYERS, oracle_forward.FORWARD, id="layers"),
        pytest.param(FUNCTIONS, oracle_functions.FUNCTIONS, id="functions"),
        pytest.param(LOSSES, oracle_losses.LOSSES, id="losses"),
        pytest.param(OPTIMIZERS, UPDATES, id="optimizers"),
        pytest.param(CLIPS, oracle_optimizers.CLIPS, id="clips"),
        pytest.param(DECAYING, oracle_optimizers.DECAYS, id="decays"),
    ],
)
def test_the_oracle_defines_every_record(
    records: Mapping[str, object], definitions: Mapping[str, object]
) -> None:
    missing = sorted(records.keys() - definitions.keys())
    assert not missing, f"the oracle has no definition of {', '.join(missing)}"


@given(strategies.examples())
def test_complex_steps_give_the_gradients_of_autodiff(example: Example) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    engine = create("torch", dtype="float64")
    model = to_convention("torch", example.model)
    reference = ORACLE.build(model, example.weights)
    network = engine.build(model, example.weights)
    outputs = ORACLE.trace(reference, example.batch)
    assume(strategies.kink_distance(model, example.batch.x, outputs) > 1e-9)
    for expected, actual in zip(outputs, engine.trace(network, example.batch), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)
    exact = ORACLE.gradients(reference, example.batch, example.loss)
    found = engine.gradients(network, example.batch, example.loss)
    assert exact.x is not None
    assert found.x is not None
    scale = max(float(np.abs(g).max()) for g in [*exact.weights.values(), exact.x])
    for name, gradient in exact.weights.items():
        assert np.abs(found.weights[name] - gradient).max() <= 1e-10 * max(scale, 1), name
    assert np.abs(found.x - exact.x).max() <= 1e-10 * max(scale, 1)


@given(
    model=strategies.models(outputs=3, most_layers=3).filter(normalises_several_values),
    optimizer=strategies.optimizers(),
)
def test_the_oracle_trains_as_torch_does(model: Model, optimizer: Optimizer) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    model = to_convention("torch", model)
    recipe = to_convention("torch", Recipe(optimizer, batch_size=8, epochs=2))
    generator = np.random.default_rng(0)
    samples = Samples(
        generator.standard_normal((19, *model.input_shape)), generator.integers(0, 3, 19)
    )
    plan = Plan(1, parity=True)
    training = TrainingCase(model, plan.weights(model), samples, recipe, plan)
    # The tolerance follows from the condition of the training: a high drop rate lets errors grow.
    trial = Trial(engine_factory("torch", "cpu"), dtype="float64")
    compare_trainings(trial, training, "after two epochs")


def test_a_gradient_by_hand() -> None:
    """For y = 2 x and t = 0 the mean of (2 x)^2 over three samples has the slope 8 x / 3 in x."""
    model = Model("line", (1,), (Dense(1, use_bias=False),))
    x = np.array([[1.0], [-2.0], [0.5]])
    net = ORACLE.build(model, {"dense_1.kernel": np.array([[2.0]])})
    found = ORACLE.gradients(net, Batch(x, np.zeros((3, 1))), MeanSquaredError())
    assert found.loss == pytest.approx(4 * (1 + 4 + 0.25) / 3, rel=1e-15)
    assert found.x is not None
    np.testing.assert_allclose(found.x, 8 * x / 3, rtol=1e-15)
    np.testing.assert_allclose(
        found.weights["dense_1.kernel"], [[4 * (1 + 4 + 0.25) / 3]], rtol=1e-15
    )
    batch = Batch(x, np.zeros((3, 1)))
    along: dict[str | int, Any] = {0: np.ones((3, 1))}
    loss, slope = ORACLE.slope(net, batch, MeanSquaredError(), along)
    assert (loss, slope) == pytest.approx((found.loss, 8 * x.sum() / 3), rel=1e-14)
