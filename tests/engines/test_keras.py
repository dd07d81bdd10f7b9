"""The keras engine against closed forms. One process runs one backend: DLSYS_KERAS_ENGINE=keras-jax
chooses JAX."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import Epoch, History, train, training_epochs
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, DivergedError, EngineError
from dlsys_bench.spec import initializers, layers, losses, optimizers
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

REASONS = {name: unavailable(name) for name in ("keras", "keras-jax")}
ENGINE = os.environ.get("DLSYS_KERAS_ENGINE") or (
    "keras-jax" if REASONS["keras"] and not REASONS["keras-jax"] else "keras"
)
OTHER = "keras-jax" if ENGINE == "keras" else "keras"

pytestmark = pytest.mark.skipif(bool(REASONS[ENGINE]), reason=str(REASONS[ENGINE]))

# On JAX keras has no float64. Rates, betas and epsilons below are exact in float32, as keras keeps
# them.
DTYPE, CLOSE = ("float64", 1e-12) if ENGINE == "keras" else ("float32", 3e-6)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return create(ENGINE, dtype=DTYPE)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def linear(inputs: int, outputs: int = 1) -> Model:
    return Model("linear", (inputs,), (layers.Dense(outputs, use_bias=False),))


def kernel(values: Any) -> Weights:
    return {"dense_1.kernel": np.asarray(values, float)}


def trained(
    engine: Engine,
    model: Model,
    weights: Weights,
    samples: Samples,
    recipe: Recipe,
    plan: Plan | None = None,
) -> tuple[Weights, History]:
    net = engine.build(model, weights)
    history = train(engine, net, samples, recipe, plan or Plan(0))
    return engine.weights(net), history


# --- the optimisers, on half the squared error of a linear network: its gradient is x'(xw - y) / n
# ---

Step = Callable[[Any], Any]


def sgd(rate: float, momentum: float = 0.0, nesterov: bool = False, outside: bool = False) -> Step:
    v: Any = 0.0

    def step(g: Any) -> Any:
        nonlocal v
        if outside:
            v = momentum * v + g
            return -rate * v
        v = momentum * v - rate * g
        return momentum * v - rate * g if nesterov else v

    return step


def adam(rate: float, b1: float, b2: float, epsilon: float, after: bool = False) -> Step:
    m: Any = 0.0
    v: Any = 0.0
    t = 0

    def step(g: Any) -> Any:
        nonlocal m, v, t
        m, v, t = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g, t + 1
        if after:
            return -rate * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon)
        return -rate * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + epsilon)

    return step


def rmsprop(rate: float, rho: float, epsilon: float, outside: bool = False) -> Step:
    v: Any = 0.0

    def step(g: Any) -> Any:
        nonlocal v
        v = rho * v + (1 - rho) * g * g
        return -rate * g / (np.sqrt(v) + epsilon if outside else np.sqrt(v + epsilon))

    return step


OPTIMIZERS = [
    pytest.param(optimizers.SGD(0.25), sgd(0.25), sgd(0.125), id="sgd"),
    pytest.param(optimizers.SGD(0.25, momentum=0.5), sgd(0.25, 0.5), sgd(0.25), id="momentum"),
    pytest.param(
        optimizers.SGD(0.25, momentum=0.5, nesterov=True),
        sgd(0.25, 0.5, True),
        sgd(0.25, 0.5),
        id="nesterov",
    ),
    pytest.param(
        optimizers.Adam(0.125, 0.5, 0.75, 0.125),
        adam(0.125, 0.5, 0.75, 0.125),
        adam(0.125, 0.5, 0.75, 0.125, True),
        id="adam",
    ),
    pytest.param(
        optimizers.RMSprop(0.125, 0.5, 0.125),
        rmsprop(0.125, 0.5, 0.125),
        rmsprop(0.125, 0.5, 0.125, True),
        id="rmsprop",
    ),
]


@pytest.mark.parametrize(("record", "right", "wrong"), OPTIMIZERS)
def test_three_updates_follow_the_keras_convention(
    engine: Engine,
    generator: np.random.Generator,
    record: optimizers.Optimizer,
    right: Step,
    wrong: Step,
) -> None:
    x, y, start = (
        generator.normal(size=(8, 3)),
        generator.normal(size=(8, 2)),
        generator.normal(size=(3, 2)),
    )
    recipe = Recipe(
        record, batch_size=8, epochs=3, loss=losses.HalfMeanSquaredError(), shuffle=False
    )
    found, _ = trained(engine, linear(3, 2), kernel(start), Samples(x, y), recipe)
    ends = []
    for step in (right, wrong):
        w = start
        for _ in range(3):
            w = w + step(x.T @ (x @ w - y) / 8)
        ends.append(w)
    np.testing.assert_allclose(found["dense_1.kernel"], ends[0], atol=CLOSE, rtol=0)
    assert np.abs(ends[0] - ends[1]).max() > 1000 * CLOSE, "the other convention would pass too"


def test_every_training_starts_a_fresh_optimizer(engine: Engine) -> None:
    recipe = Recipe(optimizers.SGD(0.25, momentum=0.5), 2, 1, loss=losses.HalfMeanSquaredError())
    samples, w = Samples(np.ones((2, 1)), np.zeros((2, 1))), 1.0
    net = engine.build(linear(1), kernel([[w]]))
    for _ in range(2):
        train(engine, net, samples, recipe, Plan(0))
        w -= 0.25 * w
    assert engine.weights(net)["dense_1.kernel"][0, 0] == pytest.approx(w, abs=CLOSE)


# --- how a training goes: order, length, figures, divergence ---


def powers(samples: int) -> Samples:
    """Samples whose squared errors, at a weight of zero, are 1, 2, 4, ...: a sum of them tells
    which were summed."""
    return Samples(np.ones((samples, 1)), np.sqrt(2.0 ** np.arange(samples))[:, None])


def seen(
    engine: Engine, samples: int, steps: int, plan: Plan, shuffle: bool = True
) -> list[set[int]]:
    """Which samples each epoch saw before the training stopped. The rate is zero, so no weight
    moves."""
    recipe = Recipe(optimizers.SGD(0.0), 2, 3, steps, losses.MeanSquaredError(), shuffle)
    _, history = trained(engine, linear(1), kernel([[0.0]]), powers(samples), recipe, plan)
    found, before = [], 0
    for epoch in history:
        total = round(epoch.running_loss * (epoch.steps - before) * 2)
        found.append({place for place in range(samples) if total >> place & 1})
        before = epoch.steps
    return found


def test_native_shuffling_differs_between_epochs_and_follows_the_seed(engine: Engine) -> None:
    everything, state = set(range(16)), random.getstate()
    first, second = seen(engine, 16, 3, Plan(1))[0], seen(engine, 16, 11, Plan(1))
    assert second[0] == everything
    assert len(first) == len(second[1]) == 6
    assert first != second[1], "the second epoch began as the first"
    assert max(first | second[1]) > 8, "only neighbours change places"
    assert first == seen(engine, 16, 3, Plan(1))[0], "the same seed gave another order"
    assert first != seen(engine, 16, 3, Plan(2))[0], "another seed gave the same order"
    assert seen(engine, 16, 11, Plan(1), shuffle=False) == [everything, set(range(6))]
    assert random.getstate() == state, "training left Python's own generator seeded"


def test_parity_follows_the_order_of_the_plan(engine: Engine) -> None:
    plan = Plan(3, parity=True)
    assert seen(engine, 16, 11, plan) == [set(range(16)), set(plan.order(2, 16)[:6].tolist())]


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize(("recipe_steps", "plan_steps"), [(7, None), (None, 7), (9, 7), (7, 9)])
def test_the_training_stops_at_exactly_the_last_step(
    engine: Engine, parity: bool, recipe_steps: int | None, plan_steps: int | None
) -> None:
    # Below the margin the hinge has slope -1, so every update adds the rate.
    recipe = Recipe(optimizers.SGD(2.0**-10), 2, 4, recipe_steps, losses.Hinge())
    samples = Samples(np.ones((9, 1)), np.ones(9, int))
    weights, history = trained(
        engine,
        linear(1),
        kernel([[0.0]]),
        samples,
        recipe,
        Plan(0, steps=plan_steps, parity=parity),
    )
    assert weights["dense_1.kernel"][0, 0] == 7 * 2.0**-10
    assert [(epoch.epoch, epoch.steps) for epoch in history] == [(1, 5), (2, 7)]


def test_the_running_figures_weigh_a_batch_by_its_size(engine: Engine) -> None:
    samples = Samples(np.ones((5, 1)), np.array([[0.0], [0.0], [0.0], [0.0], [10.0]]))
    recipe = Recipe(optimizers.SGD(0.0), 4, 1, loss=losses.MeanSquaredError(), shuffle=False)
    _, (epoch,) = trained(engine, linear(1), kernel([[0.0]]), samples, recipe)
    assert epoch.running_loss == pytest.approx(20.0)  # the mean of the batches' means would be 50
    assert epoch.running_accuracy is None


def test_the_running_accuracy_of_signs_and_labels(engine: Engine) -> None:
    signs = Samples(np.array([[1.0], [-1.0], [2.0], [0.0], [3.0]]), np.array([1, 1, 1, 1, -1]))
    recipe = Recipe(optimizers.SGD(0.0), 2, 1, loss=losses.PerceptronCriterion())
    assert trained(engine, linear(1), kernel([[1.0]]), signs, recipe)[1][
        0
    ].running_accuracy == pytest.approx(2 / 5)
    labels = Samples(np.eye(3), np.array([0, 1, 1]))
    for loss in (losses.CategoricalCrossEntropy(), losses.SparseCategoricalCrossEntropy()):
        recipe = Recipe(optimizers.SGD(0.0), 2, 1, loss=loss)
        _, (epoch,) = trained(engine, linear(3, 3), kernel(9 * np.eye(3)), labels, recipe)
        assert epoch.running_accuracy == pytest.approx(2 / 3)
        assert epoch.running_loss == pytest.approx(math.log(1 + 2 * math.exp(-9)) + 9 / 3)


def test_an_epoch_is_yielded_as_it_ends_and_the_time_of_the_caller_is_not_counted(
    engine: Engine,
) -> None:
    net = engine.build(linear(1), kernel([[0.0]]))
    history: list[Epoch] = []
    outputs: list[float] = []
    recipe = Recipe(optimizers.SGD(2.0**-10), 2, 3, loss=losses.Hinge())
    for epoch in engine.fit(net, Samples(np.ones((4, 1)), np.ones(4, int)), recipe, Plan(0)):
        history.append(epoch)
        outputs.append(float(engine.predict(net, np.ones((1, 1)))[0, 0]))
        time.sleep(0.5)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert outputs == [2 * 2.0**-10, 4 * 2.0**-10, 6 * 2.0**-10], (
        "the network is not as the epoch left it"
    )
    assert 0 < history[2].seconds < 0.5


@pytest.mark.parametrize("parity", [False, True])
def test_a_loss_that_is_not_finite_is_named_by_epoch_and_batch(
    engine: Engine, parity: bool
) -> None:
    y = np.zeros((10, 1))
    y[5] = np.inf
    recipe = Recipe(optimizers.SGD(0.0), 2, 2, loss=losses.MeanSquaredError(), shuffle=False)
    epochs: list[Epoch] = []

    def fit(x: Array, y: Array, recipe: Recipe) -> DivergedError:
        net = engine.build(linear(1), kernel([[1.0]]))
        with pytest.raises(DivergedError) as caught:
            epochs.extend(engine.fit(net, Samples(x, y), recipe, Plan(0, parity=parity)))
        return caught.value

    error = fit(np.ones((10, 1)), y, recipe)
    assert (error.epoch, error.batch, epochs) == (1, 3, [])
    # The error grows by a factor of 1 - 2 rate at each update, its square past float32 at the fifth
    # batch.
    recipe = Recipe(optimizers.SGD(2.0**16), 1, 2, loss=losses.MeanSquaredError(), shuffle=False)
    error = fit(np.ones((3, 1)), np.zeros((3, 1)), recipe)
    assert (error.epoch, error.batch, [epoch.epoch for epoch in epochs]) == (2, 2, [1])


def test_labels_out_of_range_are_refused(engine: Engine) -> None:
    net, samples = engine.build(linear(1, 3)), Samples(np.ones((2, 1)), np.array([0, 3]))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        train(engine, net, samples, Recipe(), Plan(0))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        engine.gradients(net, Batch(samples.x, samples.y), losses.CategoricalCrossEntropy())


# --- layers ---


def test_same_padding_puts_the_odd_row_and_column_at_the_end(engine: Engine) -> None:
    model = Model("conv", (3, 3, 1), (layers.Conv2D(1, (2, 2), padding="same", use_bias=False),))
    net = engine.build(model, {"conv2d_1.kernel": np.ones((2, 2, 1, 1))})
    expected = [[4, 4, 2], [4, 4, 2], [2, 2, 1]]
    assert engine.predict(net, np.ones((1, 3, 3, 1)))[0, :, :, 0].tolist() == expected
    (traced,) = engine.trace(net, Batch(np.ones((1, 3, 3, 1)), np.zeros((1, 3, 3, 1))))
    assert traced[0, :, :, 0].tolist() == expected


FUNCTIONS: dict[str, Callable[[Array], Any]] = {
    "linear": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.25 * x),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}


def test_activations_and_pools(engine: Engine, generator: np.random.Generator) -> None:
    assert tuple(FUNCTIONS) == tuple(layers.FUNCTIONS)
    x = generator.normal(size=(3, 4, 4, 2))
    squares = np.stack([x[:, r : r + 3, c : c + 3] for r in (0, 1) for c in (0, 1)], axis=1)[
        :, :, :2
    ]
    squares = squares.reshape(
        3, 2, 2, 2, 3, 2
    )  # (n, row, column, 2, 3, channel): windows 2x3, one apart
    expected: dict[layers.Layer, Any] = {
        layers.Activation.of(function=name, negative_slope=0.25): f(x)
        for name, f in FUNCTIONS.items()
    }
    expected |= {
        layers.AveragePool((2, 3), (1, 1)): squares.mean((3, 4)),
        layers.MaxPool((2, 3), (1, 1)): squares.max((3, 4)),
    }
    for layer, y in expected.items():
        found = engine.predict(engine.build(Model("one", (4, 4, 2), (layer,))), x)
        shown = (
            found[:, :2] if layer.kind.endswith("pool") else found
        )  # the third row of windows is left out
        np.testing.assert_allclose(shown, y, atol=CLOSE, err_msg=str(layer))


def test_kernels_and_images_keep_the_canonical_layout(
    engine: Engine, generator: np.random.Generator
) -> None:
    model = Model(
        "layout", (2, 3, 2), (layers.Conv2D(3, (1, 2)), layers.Flatten(), layers.Dense(4))
    )
    weights: Weights = {
        tensor.name: generator.normal(size=tensor.shape) for tensor in model.tensors
    }
    x = generator.normal(size=(5, 2, 3, 2))
    windows = np.stack([x[:, :, 0:2], x[:, :, 1:3]], axis=2)  # (n, row, column, w, channel)
    conv: Array = (
        np.einsum("nrcwi,wio->nrco", windows, weights["conv2d_1.kernel"][0])
        + weights["conv2d_1.bias"]
    )
    expected: Array = conv.reshape(5, -1) @ weights["dense_1.kernel"] + weights["dense_1.bias"]
    np.testing.assert_allclose(
        engine.predict(engine.build(model, weights), x), expected, atol=10 * CLOSE
    )


def test_weights_come_back_as_they_went_in_and_are_copies(engine: Engine) -> None:
    model = Model(
        "all",
        (4, 4, 2),
        (
            layers.Conv2D(3),
            layers.BatchNorm(),
            layers.Activation("relu"),
            layers.Dropout(),
            layers.Flatten(),
            layers.Dense(2, use_bias=False),
        ),
    )
    weights = Plan(4).weights(model)
    net = engine.build(model, weights)
    for _ in range(2):
        found = engine.weights(net)
        assert list(found) == [tensor.name for tensor in model.tensors]
        for name, values in found.items():
            np.testing.assert_array_equal(values, weights[name].astype(DTYPE))
            assert values.dtype == DTYPE
            values += 1.0


def test_batch_norm_moves_by_the_biased_variance(
    engine: Engine, generator: np.random.Generator
) -> None:
    norm = layers.BatchNorm(epsilon=0.125, moving_decay=0.75)
    model = Model("norm", (3,), (norm, layers.Dense(1, use_bias=False)))
    x, start = generator.normal(2.0, 3.0, size=(4, 3)), Plan(0).weights(model)
    recipe = Recipe(optimizers.SGD(0.0), 4, 1, loss=losses.MeanSquaredError())
    net = engine.build(model, start)
    batch = Batch(x, np.zeros((4, 1)))
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 0.125)
    np.testing.assert_allclose(engine.trace(net, batch)[0], expected, atol=CLOSE)
    train(engine, net, Samples(x, batch.y), recipe, Plan(0))
    found = engine.weights(net)
    np.testing.assert_allclose(found["batch_norm_1.moving_mean"], 0.25 * x.mean(0), atol=CLOSE)
    np.testing.assert_allclose(
        found["batch_norm_1.moving_variance"], 0.75 + 0.25 * x.var(0), atol=CLOSE
    )
    out = engine.trace(net, batch._replace(training=False))[0]
    np.testing.assert_allclose(
        out, (x - 0.25 * x.mean(0)) / np.sqrt(0.875 + 0.25 * x.var(0)), atol=CLOSE
    )


def test_dropout_keeps_what_the_mask_says_and_scales_it(
    engine: Engine, generator: np.random.Generator
) -> None:
    model = Model("drop", (6,), (layers.Dropout(0.75), layers.Dense(1, use_bias=False)))
    x, w, kept = (
        generator.normal(size=(5, 6)),
        generator.normal(size=(6, 1)),
        generator.random((5, 6)) < 0.5,
    )
    net = engine.build(model, kernel(w))
    batch = Batch(x, np.zeros((5, 1)), {0: kept})
    np.testing.assert_allclose(engine.trace(net, batch)[0], 4 * x * kept, atol=CLOSE)
    found = engine.gradients(net, batch, losses.HalfMeanSquaredError())
    d = 4 * x * kept @ w / 5
    np.testing.assert_allclose(found.x, 4 * kept * (d @ w.T), atol=10 * CLOSE)
    np.testing.assert_allclose(
        found.weights["dense_1.kernel"], 4 * (x * kept).T @ d, atol=10 * CLOSE
    )
    np.testing.assert_allclose(engine.trace(net, batch._replace(training=False))[0], x, atol=CLOSE)
    np.testing.assert_allclose(engine.predict(net, x), x @ w, atol=CLOSE)


def test_parity_trains_with_the_masks_of_the_plan(
    engine: Engine, generator: np.random.Generator
) -> None:
    model = Model("drop", (6,), (layers.Dropout(0.5), layers.Dense(1, use_bias=False)))
    x, y, w = (
        generator.normal(size=(5, 6)),
        generator.normal(size=(5, 1)),
        generator.normal(size=(6, 1)),
    )
    recipe = Recipe(optimizers.SGD(0.25), 3, 2, 3, losses.HalfMeanSquaredError())
    plan = Plan(8, parity=True)
    found, _ = trained(engine, model, kernel(w), Samples(x, y), recipe, plan)
    batches = [plan.order(1, 5)[:3], plan.order(1, 5)[3:], plan.order(2, 5)[:3]]
    for step, chosen in enumerate(batches):
        dropped = 2 * x[chosen] * plan.masks(model, step, len(chosen))[0]
        w = w - 0.25 * dropped.T @ (dropped @ w - y[chosen]) / len(chosen)
    np.testing.assert_allclose(found["dense_1.kernel"], w, atol=10 * CLOSE)


def test_without_masks_dropout_draws_for_itself(engine: Engine) -> None:
    model = Model("drop", (1000,), (layers.Dropout(0.2), layers.Dropout(0.2)))
    net, batch = engine.build(model), Batch(np.ones((10, 1000)), np.zeros((10, 1000)))
    first, second = engine.trace(net, batch)
    assert set(np.unique(first)) <= {0.0, 1.25}
    assert np.mean(first == 0) == pytest.approx(0.2, abs=0.02)
    assert np.mean(second[first != 0] == 0) == pytest.approx(0.2, abs=0.02), (
        "two layers draw the same"
    )
    assert (engine.trace(net, batch)[0] != first).any(), "two passes draw the same"


def test_native_dropout_follows_the_seed_of_the_plan(engine: Engine) -> None:
    model = Model("drop", (50,), (layers.Dropout(0.5), layers.Dense(1, use_bias=False)))
    samples = Samples(np.ones((4, 50)), np.ones((4, 1)))
    recipe = Recipe(optimizers.SGD(0.125), 4, 1, loss=losses.HalfMeanSquaredError())
    net = engine.build(model, start := kernel(np.zeros((50, 1))))
    ends: list[Array] = []
    for seed in (1, 1, 2):
        net = engine.build(model, start, seed=len(ends))
        train(engine, net, samples, recipe, Plan(seed))
        ends.append(engine.weights(net)["dense_1.kernel"])
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0] != ends[2]).any()
    # One update from zero: rate * 2 * the fraction of the four samples that kept the input.
    assert set(np.unique(ends[0] / 0.125 * 2).round(6)) <= {0, 1, 2, 3, 4}
    assert np.mean(ends[0]) / 0.125 == pytest.approx(1.0, abs=0.35)


# --- gradients ---

VALUES: dict[losses.Loss, Callable[[Array, Any], float]] = {
    losses.CategoricalCrossEntropy(): lambda out, y: float(
        np.mean(np.log(np.exp(out).sum(1)) - out[np.arange(len(y)), y])
    ),
    losses.SparseCategoricalCrossEntropy(): lambda out, y: float(
        np.mean(np.log(np.exp(out).sum(1)) - out[np.arange(len(y)), y])
    ),
    losses.MeanSquaredError(): lambda out, y: float(np.mean((out - y) ** 2)),
    losses.HalfMeanSquaredError(): lambda out, y: float(np.sum((out - y) ** 2) / (2 * len(y))),
    losses.PerceptronCriterion(): lambda out, y: float(np.mean(np.maximum(0, -y * out[:, 0]))),
    losses.Hinge(): lambda out, y: float(np.mean(np.maximum(0, 1 - y * out[:, 0]))),
}


def targets(loss: losses.Loss, samples: int, outputs: int, generator: np.random.Generator) -> Any:
    if loss.targets == "labels":
        return generator.integers(0, outputs, samples)
    return (
        generator.choice([-1, 1], samples)
        if loss.targets == "signs"
        else generator.normal(size=(samples, outputs))
    )


@pytest.mark.parametrize("loss", VALUES, ids=lambda loss: loss.kind)
def test_the_loss_and_its_gradients(
    engine: Engine, generator: np.random.Generator, loss: losses.Loss
) -> None:
    outputs = 1 if loss.targets == "signs" else 3
    x, w = generator.normal(size=(7, 2)), generator.normal(size=(2, outputs))
    y = targets(loss, 7, outputs, generator)
    found = engine.gradients(engine.build(linear(2, outputs), kernel(w)), Batch(x, y), loss)
    assert found.loss == pytest.approx(VALUES[loss](x @ w, y), abs=CLOSE)
    for array, gradient in ((w, found.weights["dense_1.kernel"]), (x, found.x)):
        numeric = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            was = array[place]
            array[place] = was + 1e-6
            numeric[place] = VALUES[loss](x @ w, y)
            array[place] = was - 1e-6
            numeric[place] = (numeric[place] - VALUES[loss](x @ w, y)) / 2e-6
            array[place] = was
        np.testing.assert_allclose(gradient, numeric, atol=max(1e-8, 10 * CLOSE))


@pytest.mark.parametrize(
    "loss", [losses.CategoricalCrossEntropy(), losses.SparseCategoricalCrossEntropy()]
)
def test_a_softmax_at_the_end_is_an_output_like_any_other(
    engine: Engine, generator: np.random.Generator, loss: losses.Loss
) -> None:
    """TensorFlow's keras would take the cross-entropy of what went into the softmax."""
    model = Model("softmax", (3,), (layers.Activation("softmax"),))
    trainable = Model(
        "softmax", (3,), (layers.Dense(3, use_bias=False), layers.Activation("softmax"))
    )
    x, y = generator.normal(size=(4, 3)), np.array([0, 1, 2, 0])
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = VALUES[loss](p, y)
    assert engine.gradients(engine.build(model), Batch(x, y), loss).loss == pytest.approx(
        expected, abs=CLOSE
    )
    recipe = Recipe(optimizers.SGD(0.0), 4, 1, loss=loss)
    _, (epoch,) = trained(engine, trainable, kernel(np.eye(3)), Samples(x, y), recipe)
    assert epoch.running_loss == pytest.approx(expected, rel=1e-6)


def test_looking_moves_neither_weights_nor_state(
    engine: Engine, generator: np.random.Generator
) -> None:
    model = Model(
        "looked at",
        (4, 4, 1),
        (
            layers.BatchNorm(),
            layers.Conv2D(2),
            layers.BatchNorm(),
            layers.Dropout(),
            layers.Flatten(),
            layers.Dense(3),
        ),
    )
    net = engine.build(model, seed=3)
    before = engine.weights(net)
    batch = Batch(generator.normal(size=(6, 4, 4, 1)), generator.integers(0, 3, 6))
    found = engine.gradients(net, batch, losses.CategoricalCrossEntropy())
    assert list(found.weights) == [tensor.name for tensor in model.tensors if tensor.trainable]
    assert [y.shape[1:] for y in engine.trace(net, batch)] == list(model.shapes[1:])
    held = engine.gradients(net, batch._replace(training=False), losses.CategoricalCrossEntropy())
    outputs = engine.predict(net, batch.x)
    assert held.loss == pytest.approx(
        VALUES[losses.CategoricalCrossEntropy()](outputs, batch.y), abs=10 * CLOSE
    )
    assert abs(found.loss - held.loss) > 1e-3
    for name, values in engine.weights(net).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


# --- building and predicting ---


def test_an_own_draw_follows_the_law_of_each_initializer(engine: Engine) -> None:
    for record in initializers.INITIALIZERS.values():
        start = record()
        dense = layers.Dense(400, kernel_initializer=start, bias_initializer=start)
        model = Model("drawn", (100,), (dense, layers.Dense(400, kernel_initializer=start)))
        found = engine.weights(engine.build(model, seed=1))
        law = start.distribution(initializers.Fans(100, 400))
        wide = {
            "constant": 0.0,
            "uniform": (law.high - law.low) / math.sqrt(12),
            "normal": law.stddev,
            "truncated_normal": law.stddev * initializers.TRUNCATED_STDDEV,
        }[law.family]
        middle = law.value if law.family == "constant" else (law.low + law.high) / 2
        for name, tolerance in (("dense_1.kernel", 0.02), ("dense_1.bias", 0.15)):
            values = found[name]
            assert values.std() == pytest.approx(wide, rel=tolerance), f"{record.kind} {name}"
            assert values.mean() == pytest.approx(middle, abs=4 * wide / math.sqrt(values.size)), (
                f"{record.kind} {name}"
            )
        if wide:
            assert (
                abs(np.corrcoef(found["dense_1.kernel"][0], found["dense_2.kernel"][0])[0, 1]) < 0.3
            ), record.kind


def test_a_seed_gives_the_same_draw_and_another_seed_another(engine: Engine) -> None:
    first, again, other = (
        engine.weights(engine.build(linear(5, 4), seed=seed))["dense_1.kernel"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_many_samples_are_predicted_as_few_are(
    engine: Engine, generator: np.random.Generator
) -> None:
    net, x = engine.build(linear(3, 2)), generator.normal(size=(2500, 3))
    expected = x @ engine.weights(net)["dense_1.kernel"]
    for samples in (2500, 1000, 1001, 7, 1, 0):
        found = engine.predict(net, x[:samples])
        assert found.shape == (samples, 2)
        np.testing.assert_allclose(found, expected[:samples], atol=CLOSE)


def test_float32_is_the_default_and_stays() -> None:
    engine = create(ENGINE)
    model = Model("single", (4,), (layers.BatchNorm(), layers.Dropout(), layers.Dense(3)))
    net = engine.build(model)
    samples = Samples(np.ones((6, 4)), np.array([0, 1, 2, 0, 1, 2]))
    train(engine, net, samples, Recipe(optimizers.Adam(), 4, 2), Plan(0))
    found = engine.gradients(net, Batch(samples.x, samples.y), losses.CategoricalCrossEntropy())
    arrays = [
        *engine.weights(net).values(),
        *found.weights.values(),
        found.x,
        engine.predict(net, samples.x),
    ]
    assert {array.dtype.name for array in arrays} == {"float32"}


# --- what is refused, and what is loaded when ---


def test_what_keras_cannot_do_is_refused_by_name(engine: Engine) -> None:
    dampened = optimizers.SGD(0.1, momentum=0.9, dampening=0.5, velocity="gradient")
    with pytest.raises(EngineError, match="velocity is 'gradient'"):
        engine.check(Recipe(dampened))
    with pytest.raises(EngineError, match="epsilon_added is 'after'"):
        engine.check(Recipe(optimizers.Adam(epsilon_added="after")))
    dense = layers.Dense(2, kernel_initializer=initializers.GlorotNormal(truncated=False))
    with pytest.raises(EngineError, match="glorot_normal: truncated is False"):
        engine.build(Model("plain", (2,), (dense,)))


def test_a_device_that_is_not_there_is_refused(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlsys_bench.engines.keras import backend

    name = {"keras": "tensorflow", "keras-jax": "jax"}[ENGINE]
    without = backend.BACKENDS[name]._replace(has_gpu=lambda: False)
    monkeypatch.setitem(backend.BACKENDS, name, without)
    with pytest.raises(EngineError) as caught:
        create(ENGINE, device="cuda")
    assert (
        str(caught.value)
        == f'engine "{ENGINE}" finds no CUDA device on this machine: use --device cpu'
    )


@pytest.mark.skipif(ENGINE != "keras-jax", reason="keras on TensorFlow has float64")
def test_jax_has_no_float64() -> None:
    with pytest.raises(EngineError, match="no dtype 'float64'; it has float32"):
        create(ENGINE, dtype="float64")


def test_a_second_backend_in_one_process_is_refused(engine: Engine) -> None:
    from dlsys_bench.engines.keras import KerasEngine, KerasJaxEngine

    with pytest.raises(EngineError) as caught:
        (KerasJaxEngine if ENGINE == "keras" else KerasEngine)()
    backends = {"keras": "tensorflow", "keras-jax": "jax"}
    assert str(caught.value) == (
        f'engine "{OTHER}" needs keras on {backends[OTHER]}, but this process already runs it on {backends[ENGINE]}: '
        "give it a process of its own"
    )


def test_importing_the_engine_imports_no_framework() -> None:
    code = "import sys, dlsys_bench.engines.keras; sys.exit(bool({'keras', 'tensorflow', 'jax'} & {*sys.modules}))"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.skipif(bool(REASONS[OTHER]), reason=str(REASONS[OTHER]))
@pytest.mark.skipif("DLSYS_KERAS_ENGINE" in os.environ, reason="one backend was asked for")
def test_the_other_backend_passes_too() -> None:
    some = "updates or moves or mask or order or not_finite or stays"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", some],
        env=os.environ | {"DLSYS_KERAS_ENGINE": OTHER, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_losses_of_steps_are_in_order_though_their_batches_end_out_of_order(engine: Engine) -> None:
    """Keras reads them in threads. Batches of 2, 2 and 1 with losses 1, 4 and 10 have the running
    means 1, 2.5, 4."""
    from dlsys_bench.engines.keras.training import EpochCallback
    from dlsys_bench.spec.schedules import LearningRateRamp

    recipe = Recipe(
        optimizers.SGD(0.1), batch_size=2, epochs=1, schedule=LearningRateRamp(0.1, 0.2, 3)
    )
    net = engine.build(linear(1))
    (epoch_run,) = training_epochs(net.model, 5, recipe, Plan(0))
    watch = EpochCallback(net, epoch_run)
    watch.on_epoch_begin(0)
    for batch in range(3):
        watch.on_train_batch_begin(batch)
    for batch, mean in ((0, 1.0), (2, 4.0), (1, 2.5)):
        watch.on_train_batch_end(batch, {"loss": mean})
    watch.on_epoch_end(0, {"loss": 4.0})
    epoch = watch.ended
    assert epoch.by_step is not None
    np.testing.assert_allclose(epoch.by_step["loss"], [1.0, 4.0, 10.0])
