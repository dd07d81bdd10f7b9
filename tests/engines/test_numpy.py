"""The numpy engine's own draws and buffers: what a step by step comparison, which hands them in,
cannot see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import Epoch, train
from dlsys_bench.engines.numpy import NumpyEngine, convolution
from dlsys_bench.engines.numpy.normalization import DropoutRule
from dlsys_bench.engines.plan import Plan, count_steps, split_order
from dlsys_bench.errors import DataError, DivergedError
from dlsys_bench.spec.layers import Activation, BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool
from dlsys_bench.spec.losses import Hinge, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

ENGINE = NumpyEngine()
LINEAR = Model("linear", (4,), (Dense(3),))


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_keeps_the_fraction_that_it_says_and_scales_it(rate: float, dtype: str) -> None:
    rule = DropoutRule(Dropout(rate), (1000,), {}, {})
    rule.generators = [np.random.default_rng(5)]
    first = rule.forward(np.ones((1, 1000, 200), dtype), training=True).copy()
    second = rule.forward(np.ones((1, 1000, 200), dtype), training=True).copy()
    for y in (first, second):
        np.testing.assert_allclose(np.unique(y), [0.0, 1 / (1 - rate)], rtol=1e-6)
        # A binomial fraction of 200,000: five of its deviations.
        assert (y > 0).mean() == pytest.approx(
            1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / y.size)
        )
    both = ((first > 0) & (second > 0)).mean()
    assert both == pytest.approx((1 - rate) ** 2, abs=5 * math.sqrt((1 - rate) ** 2 / first.size))
    # Each sample and each unit draws for itself: their fractions spread as binomials do.
    for axis, count in ((1, 1000), (2, 200)):
        spread = (first > 0).mean(axis=axis).std()
        assert spread == pytest.approx(math.sqrt(rate * (1 - rate) / count), rel=0.25)


def test_dropout_gradients_pass_where_it_kept_and_as_much() -> None:
    rule = DropoutRule(Dropout(0.5), (100,), {}, {})
    rule.generators = [np.random.default_rng(5)]
    y = rule.forward(np.ones((1, 100, 8)), training=True).copy()
    np.testing.assert_array_equal(rule.backward(np.ones((1, 100, 8)), wants_dx=True), y)
    x = np.ones((1, 100, 8))
    assert rule.forward(x, training=False) is x
    np.testing.assert_array_equal(rule.backward(np.full((1, 100, 8), 3.0), wants_dx=True), 3.0)


def test_an_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
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


def test_masks_depend_on_seed_layer_and_step_alone() -> None:
    model = Model("two", (50,), (Dropout(0.5), Dense(50), Dropout(0.5), Dense(2)))
    masks = Plan(1).masks(model, 4, 30)
    assert set(masks) == {0, 2}
    assert masks[0].shape == (30, 50)
    for other in (masks[2], Plan(1).masks(model, 5, 30)[0], Plan(2).masks(model, 4, 30)[0]):
        assert 0.4 < (masks[0] != other).mean() < 0.6
    np.testing.assert_array_equal(Plan(1).masks(model, 4, 30)[0], masks[0])


@pytest.mark.parametrize(
    ("samples", "recipe", "plan", "steps"),
    [
        (100, Recipe(batch_size=30, epochs=3), Plan(0), 12),
        (100, Recipe(batch_size=30, epochs=3, steps=7), Plan(0), 7),
        (100, Recipe(batch_size=30, epochs=3, steps=7), Plan(0, steps=5), 5),
        (100, Recipe(batch_size=30, epochs=3, steps=70), Plan(0, steps=50), 12),
    ],
)
def test_a_training_makes_as_many_steps_as_it_says(
    samples: int, recipe: Recipe, plan: Plan, steps: int
) -> None:
    generator = np.random.default_rng(0)
    data = Samples(
        generator.standard_normal((samples, 4)).astype("float32"), generator.integers(0, 3, samples)
    )
    history = train(ENGINE, ENGINE.build(LINEAR), data, recipe, plan)
    assert count_steps(samples, recipe, plan) == history[-1].steps == steps


def test_the_running_figures_are_means_over_the_samples_of_the_epoch() -> None:
    x = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0]]
    y = np.array([0, 1, 2, 2, 0])
    net = ENGINE.build(
        LINEAR, {"dense_1.kernel": np.eye(4)[:, :3] * 9.0, "dense_1.bias": np.zeros(3)}
    )
    (epoch,) = train(ENGINE, net, Samples(x, y), Recipe(SGD(0.0), batch_size=2, epochs=1), Plan(0))
    assert epoch.running_accuracy == pytest.approx(4 / 5)
    expected = (4 * math.log(1 + 2 * math.exp(-9)) + math.log(3)) / 5
    assert epoch.running_loss == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_leaves_the_finite_is_named_and_earlier_epochs_are_kept() -> None:
    x = np.ones((60, 4), "float32")
    x[45, 2] = np.inf
    seen: list[Epoch] = []
    plan = Plan(0)
    with pytest.raises(DivergedError) as error, np.errstate(all="ignore"):
        seen.extend(
            ENGINE.fit(
                ENGINE.build(LINEAR),
                Samples(x, np.zeros(60, int)),
                Recipe(batch_size=10, epochs=2),
                plan,
            )
        )
    assert (error.value.epoch, error.value.batch) == (
        1,
        list(plan.order(1, 60)).index(45) // 10 + 1,
    )
    assert not seen
    growing = Recipe(SGD(40.0), batch_size=10, epochs=50, loss=MeanSquaredError())
    with pytest.raises(DivergedError) as error, np.errstate(all="ignore"):
        seen.extend(
            ENGINE.fit(
                ENGINE.build(LINEAR),
                Samples(x[:40], np.ones((40, 3), "float32")),
                growing,
                plan,
            )
        )
    assert [epoch.epoch for epoch in seen] == list(range(1, error.value.epoch))
    assert seen


@pytest.mark.parametrize(
    ("y", "loss", "said"),
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
def test_targets_that_do_not_fit_are_named(y: np.ndarray, loss: object, said: str) -> None:
    recipe = Recipe() if loss is None else Recipe(loss=loss)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        train(
            ENGINE, ENGINE.build(LINEAR), Samples(np.zeros((3, 4), "float32"), y), recipe, Plan(0)
        )


def test_buffers_of_one_batch_do_not_leak_into_the_next() -> None:
    """Batches of changing size share memory: a small one after a large one must not see what lies
    behind it."""
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
        alone, together = (
            engine.gradients(net, batch, Recipe().loss)
            for net in (engine.build(model, weights), shared)
        )
        for name in alone.weights:
            np.testing.assert_array_equal(together.weights[name], alone.weights[name], err_msg=name)
        np.testing.assert_array_equal(together.x, alone.x)


@settings(max_examples=30)
@given(layer=strategies.layers("conv2d"), seed=st.integers(0, 99), at_once=st.integers(1, 6))
def test_a_convolution_in_pieces_is_a_convolution(layer: Conv2D, seed: int, at_once: int) -> None:
    """Large batches are gathered piece by piece: the same outputs and gradients as all at once."""
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
    np.testing.assert_allclose(pieces.x, whole.x, rtol=1e-10, atol=1e-14)
    for name, gradient in whole.weights.items():
        np.testing.assert_allclose(
            pieces.weights[name], gradient, rtol=1e-9, atol=1e-13, err_msg=name
        )
