"""The draws of a plan, and the errors and buffers of the numpy engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.numpy import NumpyEngine, convolution, memory
from dlsys_bench.engines.plan import Plan, split_order
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import BatchError, DataError, OtherEngineError
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.losses import Hinge, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

ENGINE = NumpyEngine()
LINEAR = Model("linear", (4,), (Dense(3),))


def test_each_epoch_visits_every_sample_once_in_another_order() -> None:
    plan = Plan(3)
    orders = [plan.order(epoch, 103) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order) == list(range(103))
        batches = list(split_order(order, [20, 20, 20, 20, 20, 3]))
        assert [len(batch) for batch in batches] == [20, 20, 20, 20, 20, 3]
        np.testing.assert_array_equal(np.concatenate(batches), order)
    assert (orders[0] != orders[1]).mean() > 0.9
    assert (plan.order(1, 103) == orders[0]).all()
    assert (Plan(4).order(1, 103) != orders[0]).mean() > 0.9
    np.testing.assert_array_equal(plan.order(1, 5, shuffle=False), range(5))


def test_masks_depend_only_on_seed_layer_and_step() -> None:
    model = Model("two", (50,), (Dropout(0.5), Dense(50), Dropout(0.5), Dense(2)))
    masks = Plan(1).masks(model, 4, 30)
    assert set(masks) == {0, 2}
    assert masks[0].shape == (30, 50)
    for other in (masks[2], Plan(1).masks(model, 5, 30)[0], Plan(2).masks(model, 4, 30)[0]):
        assert 0.4 < (masks[0] != other).mean() < 0.6
    np.testing.assert_array_equal(Plan(1).masks(model, 4, 30)[0], masks[0])


@pytest.mark.parametrize(
    ("y", "loss", "message"),
    [
        (
            np.array([0, 1, 3]),
            None,
            r"y\[2\] is 3, but the network has 3 outputs: labels are 0 to 2",
        ),
        (np.array([0, -1, 1]), None, r"y\[1\] is -1"),
        (np.array([0.0, 1.0, 2.0]), None, "takes labels"),
        (np.zeros((3, 2)), MeanSquaredError(), "outputs' shape"),
        (np.array([1, -1, 1]), Hinge(), "one output"),
    ],
)
def test_targets_that_do_not_fit_are_refused(y: np.ndarray, loss: object, message: str) -> None:
    recipe = Recipe() if loss is None else Recipe(loss=loss)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        train(
            ENGINE, ENGINE.build(LINEAR), Samples(np.zeros((3, 4), "float32"), y), recipe, Plan(0)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vector_may_be_read_beyond_an_array(dtype: str) -> None:
    found, vector = memory.empty((3, 5), dtype), 16 * np.dtype(dtype).itemsize
    whole: Any = found
    while whole.base is not None:
        whole = whole.base
    end = found.ctypes.data + found.nbytes
    assert found.ctypes.data % memory.LINE == 0
    assert whole.ctypes.data + whole.nbytes >= end + vector


def test_buffers_of_one_batch_do_not_leak_into_the_next() -> None:
    """Batches share memory: a small one must not read what a larger one left behind it."""
    model = Model(
        "mixed",
        (7, 6, 2),
        (
            Conv2D(3, (3, 2), (2, 1), "same"),
            BatchNorm(),
            Activation("relu"),
            MaxPool((2, 2), (1, 1)),
            Flatten(),
            Dense(3),
        ),
    )
    engine = NumpyEngine(dtype="float64")
    weights = Plan(1).weights(model)
    generator = np.random.default_rng(0)
    batches = [
        Batch(generator.standard_normal((n, 7, 6, 2)), generator.integers(0, 3, n))
        for n in (9, 2, 9, 5, 1)
    ]
    shared = engine.build(model, weights)
    for batch in batches:
        fresh, reused = (
            engine.gradients(net, batch, Recipe().loss)
            for net in (engine.build(model, weights), shared)
        )
        for name in fresh.weights:
            np.testing.assert_array_equal(reused.weights[name], fresh.weights[name], err_msg=name)
        np.testing.assert_array_equal(reused.x, fresh.x)


@settings(max_examples=30)
@given(layer=strategies.layers("conv2d"), seed=st.integers(0, 99), at_once=st.integers(1, 6))
def test_a_convolution_in_pieces_equals_a_whole_one(layer: Conv2D, seed: int, at_once: int) -> None:
    """Large batches are convolved piece by piece, with the same outputs and gradients."""
    model = Model(
        "conv", (8, 8, 3), (layer, Activation("tanh"), Conv2D(2, (2, 2)), Flatten(), Dense(3))
    )
    engine = NumpyEngine(dtype="float64")
    weights = strategies.nonzero_weights(model, seed)
    generator = np.random.default_rng(seed)
    batch = Batch(generator.standard_normal((6, 8, 8, 3)), generator.integers(0, 3, 6))
    whole = engine.gradients(engine.build(model, weights), batch, Recipe().loss)
    outputs = engine.predict(engine.build(model, weights), batch.x)
    of_one = math.prod((*layer.kernel_size, 3, *layer.output_shape((8, 8, 3))[:2])) * 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "PIECE_BYTES", at_once * of_one)
        pieces = engine.gradients(engine.build(model, weights), batch, Recipe().loss)
        np.testing.assert_allclose(
            engine.predict(engine.build(model, weights), batch.x), outputs, rtol=1e-11
        )
    assert pieces.x is not None
    assert whole.x is not None
    np.testing.assert_allclose(pieces.x, whole.x, rtol=1e-10, atol=1e-14)
    for name, gradient in whole.weights.items():
        np.testing.assert_allclose(
            pieces.weights[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name
        )


@pytest.mark.parametrize("name", ["numpy", "numba", "jax"])
def test_products_that_an_engine_does_not_round_raise(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine, samples, plans = create(name), Samples(np.ones((4, 4)), np.zeros(4, int)), [Plan(1)] * 2
    recipe = Recipe(batch_size=2, epochs=1, products="bfloat16")
    with pytest.raises(OtherEngineError, match=f'engine "{name}" lacks, products:bfloat16: '):
        train(engine, engine.build(LINEAR), samples, recipe, plans[0])
    with pytest.raises(OtherEngineError, match=f'engine "{name}" lacks, products:bfloat16: '):
        train_replicas(engine.replicate(LINEAR, plans), samples, recipe, plans)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("layers", [(Dense(3),), (Dense(3), Activation("softmax"), Dense(3))])
def test_a_training_without_samples_raises(name: str, layers: tuple[Layer, ...]) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine, model = create(name), Model("m", (4,), layers)
    samples = Samples(np.ones((0, 4)), np.zeros(0, int))
    with pytest.raises(BatchError, match="the data have 0 training samples"):
        train(engine, engine.build(model), samples, Recipe(batch_size=2, epochs=1), Plan(1))
