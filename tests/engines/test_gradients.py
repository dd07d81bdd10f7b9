"""Gradients by hand against autodiff and against differences of the loss, on drawn networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention


@pytest.fixture(scope="module", params=["numba", "torch", "jax", "keras"])
def autodiff(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param, dtype="float64")


def largest(weights: Weights) -> float:
    return max(float(np.abs(gradient).max()) for gradient in weights.values())


def compare(
    found: Weights, expected: Weights, scale: float, tolerance: float, example: Example
) -> None:
    for name, gradient in expected.items():
        difference = float(np.abs(found[name] - gradient).max())
        assert difference <= tolerance * scale, (
            f"d {name}: {difference / scale:.2g} of the largest gradient, {tolerance:g} allowed [{example}]"
        )


@given(example=strategies.examples())
def test_gradients_are_those_of_autodiff(autodiff: Engine, example: Example) -> None:
    model, weights, batch, loss, _ = example
    ours, theirs = NumpyEngine(dtype="float64"), autodiff
    model = to_convention(theirs.convention, model)
    found = ours.gradients(ours.build(model, weights), batch, loss)
    expected = theirs.gradients(theirs.build(model, weights), batch, loss)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9, abs=1e-12)
    scale = largest(expected.weights)
    compare(found.weights, expected.weights, scale, 1e-9, example)
    compare(
        {"x": found.x}, {"x": expected.x}, max(scale, largest({"x": expected.x})), 1e-9, example
    )


@given(example=strategies.examples())
def test_outputs_are_those_of_the_frameworks(autodiff: Engine, example: Example) -> None:
    model, weights, batch, _, _ = example
    ours = NumpyEngine(dtype="float64")
    model = to_convention(autodiff.convention, model)
    traced = zip(
        model.names,
        model.shapes[1:],
        ours.trace(ours.build(model, weights), batch),
        autodiff.trace(autodiff.build(model, weights), batch),
        strict=True,
    )
    for name, shape, found, expected in traced:
        assert found.shape == expected.shape == (len(batch.x), *shape), name
        np.testing.assert_allclose(
            found, expected, rtol=1e-9, atol=1e-9, err_msg=f"{name} [{example}]"
        )


STEP = 1e-5


@given(example=strategies.examples())
def test_gradients_are_those_of_central_differences(example: Example) -> None:
    model, weights, batch, loss, seed = example
    engine = NumpyEngine(dtype="float64")
    net = engine.build(model, weights)
    # A kink within reach of a step has no derivative to compare with.
    assume(strategies.kink_distance(model, batch.x, engine.trace(net, batch)) > 100 * STEP)
    found = engine.gradients(net, batch, loss)
    gradients = found.weights | {"x": found.x}
    scale = largest(gradients)
    # Below this the rounding of the loss is as large as what is looked for.
    assume(scale > 1e-3)
    generator = np.random.default_rng(seed)

    def loss_at(name: str, change: np.ndarray) -> float:
        moved = batch._replace(x=batch.x + change) if name == "x" else batch
        tensors = weights if name == "x" else weights | {name: weights[name] + change}
        return engine.gradients(engine.build(model, tensors), moved, loss).loss

    for name, gradient in gradients.items():
        direction = generator.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        near, far = (
            (loss_at(name, step * direction) - loss_at(name, -step * direction)) / (2 * step)
            for step in (STEP, 2 * STEP)
        )
        # The error of each is quadratic in its step, and cancels between the two.
        slope = (4 * near - far) / 3
        expected = float((direction * gradient).sum())
        assert abs(slope - expected) <= 1e-6 * scale, (
            f"d {name}: {expected:.8g} by backward, {slope:.8g} by central difference [{example}]"
        )
