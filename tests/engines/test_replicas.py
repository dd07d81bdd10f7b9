"""Replicas are trained as one program, and each gives what a single network gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
from drawn_networks import normalises_several_values
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.history import Epoch, Histories
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, DivergedError, SpecError, UserError
from dlsys_bench.spec.augmentation import HorizontalFlip, InputNoise, Shift
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm, ClipValue
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.initializers import HeNormal, Normal, Zeros
from dlsys_bench.spec.layers import (
    LAYERS,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
)
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import Loss, MeanSquaredError, SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record
from dlsys_bench.spec.schedules import CyclicalLearningRate, StepDecay

BATCHED = ("numpy", "torch")
WITHIN = 1e-10

# A gradient that is zero but for rounding, as that of a bias before batch norm.
ROUNDING = 1e-15

R = TypeVar("R", bound=Record)


@pytest.fixture(scope="module", params=BATCHED)
def engine(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param, dtype="float64")


def way(engine: Engine, record: R) -> R:
    """Return the record in the convention of the engine; numpy follows any."""
    return record if engine.name == "numpy" else to_convention(engine.convention, record)


def samples_for(loss: Loss, model: Model, seed: int, count: int = 13) -> Samples:
    generator = np.random.default_rng((seed, 5))
    x = strategies.inputs(model, count, generator)
    return Samples(x, strategies.targets(loss, model.output_shape, count, generator))


def agree(
    engine: Engine,
    model: Model,
    samples: Samples | Sequence[Samples],
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
) -> None:
    batched = engine.replicate(model, plans)
    histories = train_replicas(batched, samples, recipes, plans)
    x = (samples if isinstance(samples, Samples) else samples[0]).x
    outputs, traces = batched.predict(x), batched.trace(x)
    for replica, (recipe, plan) in enumerate(zip(recipes, plans, strict=True)):
        net = engine.build(model, plan.weights(model))
        single = train(
            engine, net, samples if isinstance(samples, Samples) else samples[replica], recipe, plan
        )
        weights, expected = batched.weights(replica), engine.weights(net)
        # An adaptive optimiser divides gradients that are rounding errors by its epsilon, and these
        # differences add up over the steps.
        rounding = (
            single[-1].steps
            * recipe.optimizer.learning_rate
            * ROUNDING
            / getattr(recipe.optimizer, "epsilon", 1.0)
        )
        within = WITHIN + rounding
        for name, tensor in expected.items():
            largest = max(np.abs(tensor).max(), 1.0)
            np.testing.assert_allclose(
                weights[name], tensor, rtol=0, atol=within * largest, err_msg=name
            )
        np.testing.assert_allclose(outputs[replica], engine.predict(net, x), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(traces[-1][replica], outputs[replica], rtol=1e-8, atol=1e-9)
        assert [e.steps for e in histories[replica]] == [e.steps for e in single]
        for actual, one in zip(histories[replica], single, strict=True):
            assert actual.running_loss == pytest.approx(one.running_loss, rel=1e-9, abs=1e-12)
            assert actual.running_accuracy == one.running_accuracy
            if one.by_step:
                assert actual.by_step is not None
                assert actual.by_step["learning_rate"] == one.by_step["learning_rate"]


# What surrounds the optimiser in an update.
PARTS = st.fixed_dictionaries(
    {
        "decay": st.sampled_from([None, *WeightDecay.examples().values()]),
        "clip": st.sampled_from([None, ClipNorm(0.1), ClipValue(0.05)]),
        "accumulate": st.sampled_from([None, 2]),
        "average": st.sampled_from([None, WeightAverage(0.7)]),
        "loss_scale": st.sampled_from([None, None, LossScale(2.0**10, interval=2)]),
    }
)


@given(
    data=st.data(),
    optimizer=strategies.optimizers(),
    seed=st.integers(0, 999),
    replicas=st.integers(1, 4),
    shuffle=st.booleans(),
    own_rates=st.booleans(),
    own_samples=st.booleans(),
    parts=PARTS,
)
def test_a_replica_gives_what_a_single_network_gives(
    engine: Engine,
    data: st.DataObject,
    optimizer: Optimizer,
    seed: int,
    replicas: int,
    shuffle: bool,
    own_rates: bool,
    own_samples: bool,
    parts: dict[str, Any],
) -> None:
    loss = way(engine, data.draw(strategies.losses(varied=True)))
    outputs = 1 if loss.targets == "signs" else 3
    drawn = strategies.models(outputs=outputs, most_layers=4, kinds=tuple(LAYERS))
    model = way(engine, data.draw(drawn.filter(normalises_several_values)))
    optimizer, count = replace(optimizer, decay=parts.pop("decay")), 15
    recipe = way(
        engine,
        Recipe(optimizer, batch_size=10, epochs=2, loss=loss, shuffle=shuffle, **parts),
    )
    plans = [Plan(seed + 7 * replica, parity=True) for replica in range(replicas)]
    rates = [optimizer.learning_rate * (1 + replica) for replica in range(replicas)]
    recipes = [
        replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=rate))
        if own_rates
        else recipe
        for rate in rates
    ]
    samples = samples_for(loss, model, seed, count)
    every = [samples_for(loss, model, seed + replica, count) for replica in range(replicas)]
    agree(engine, model, every if own_samples else samples, recipes, plans)


@pytest.mark.parametrize("own", [True, False])
def test_replicas_of_sequences_with_ignored_labels(engine: Engine, own: bool) -> None:
    loss = way(engine, SparseCategoricalCrossEntropy(0.1, -1, (0.5, 2.0, 1.0)))
    model = Model("m", (4, 3), (Dense(5), Activation("tanh"), Dense(3)))
    recipe = Recipe(way(engine, SGD(0.3)), batch_size=5, epochs=2, loss=loss)
    plans = [Plan(seed, parity=True) for seed in (3, 4)]
    every = [samples_for(loss, model, seed) for seed in (1, 2)]
    agree(engine, model, every if own else every[0], [recipe] * 2, plans)


@pytest.mark.parametrize("own", [True, False])
def test_replicas_see_their_own_augmented_images(engine: Engine, own: bool) -> None:
    model = Model("m", (4, 3, 2), (Flatten(), Dense(3)))
    records = (Shift(1), HorizontalFlip(), InputNoise(0.2))
    recipe = Recipe(way(engine, SGD(0.3)), batch_size=5, epochs=2, augment=records)
    plans = [Plan(seed, parity=True) for seed in (3, 4)]
    every = [samples_for(recipe.loss, model, seed) for seed in (1, 2)]
    agree(engine, model, every if own else every[0], [recipe] * 2, plans)


@pytest.mark.parametrize("own_samples", [True, False])
@pytest.mark.parametrize("coupling", ["decoupled", "coupled"])
def test_decay_clipping_parts_and_averages(
    engine: Engine, coupling: Literal["decoupled", "coupled"], own_samples: bool
) -> None:
    layers = (BatchNorm(), Dense(5), Activation("tanh"), Dropout(0.3), Dense(3))
    model = to_convention(engine.convention, Model("m", (4,), layers))
    around = Recipe(
        SGD(0.1, momentum=0.9, decay=WeightDecay(0.3, coupling)),
        batch_size=10,
        epochs=2,
        loss=MeanSquaredError(),
        clip=ClipNorm(0.1),
        accumulate=2,
        average=WeightAverage(0.7),
        shuffle=own_samples,
    )
    recipes = [
        to_convention(
            engine.convention,
            replace(around, optimizer=replace(around.optimizer, learning_rate=rate)),
        )
        for rate in (0.1, 0.2)
    ]
    every = [samples_for(around.loss, model, seed, 15) for seed in (0, 1)]
    plans = [Plan(seed, parity=True) for seed in (4, 9)]
    agree(engine, model, every if own_samples else every[0], recipes, plans)


def test_replicas_skip_updates_of_their_own(engine: Engine) -> None:
    model = Model("m", (4,), (Dense(3, kernel_initializer=Zeros()),))
    recipe = Recipe(
        SGD(0.1, momentum=0.9),
        batch_size=5,
        epochs=1,
        shuffle=False,
        loss=MeanSquaredError(),
        schedule=StepDecay(0.1, 1, 0.5),
        loss_scale=LossScale(),
    )
    plans = [Plan(seed, parity=True) for seed in (4, 9)]
    recipes = [to_convention(engine.convention, recipe)] * 2
    every = [samples_for(recipe.loss, model, seed) for seed in (0, 1)]
    # The first update of the second replica overflows, since weights of zero hide the input.
    every[1].x[0] *= 1e306
    agree(engine, model, every, recipes, plans)


def test_own_dropout_and_own_schedules(engine: Engine) -> None:
    """Outside parity mode, a replica drops as a single network does and has its own schedule."""
    model = Model(
        "dropped",
        (6,),
        (Dropout(0.3), Dense(5), BatchNorm(), Activation("tanh"), Dropout(0.5), Dense(3)),
    )
    model = to_convention(engine.convention, model)
    samples = samples_for(Recipe().loss, model, 3, 20)
    recipes = [
        Recipe(
            SGD(0.1), batch_size=6, epochs=2, schedule=CyclicalLearningRate(0.01 * (1 + r), 0.5, 3)
        )
        for r in range(3)
    ]
    plans = [Plan(seed, parity=engine.name != "numpy") for seed in (4, 9, 4)]
    agree(
        engine,
        model,
        samples,
        [to_convention(engine.convention, recipe) for recipe in recipes],
        plans,
    )


def test_replicas_may_have_different_initializers(engine: Engine) -> None:
    models = [
        Model("m", (4,), (Dense(50, kernel_initializer=start),))
        for start in (Normal(0.1), Normal(2.0), HeNormal())
    ]
    replicas = engine.replicate(
        [to_convention(engine.convention, model) for model in models], [Plan(1)] * 3
    )
    spreads = [replicas.weights(r)["dense_1.kernel"].std() for r in range(3)]
    np.testing.assert_allclose(spreads, [0.1, 2.0, 0.5**0.5], rtol=0.25)


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "keras"])
def test_a_replica_that_diverges_is_named_and_the_others_continue(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    model = Model("line", (3,), (Dense(1),))
    samples = samples_for(MeanSquaredError(), model, 0, 40)
    base = Recipe(
        to_convention(engine.convention, SGD(0.01)),
        batch_size=10,
        epochs=30,
        loss=MeanSquaredError(),
    )
    recipes = [
        replace(base, optimizer=replace(base.optimizer, learning_rate=rate))
        for rate in (0.01, 1e9, 0.05)
    ]
    plans = [Plan(seed) for seed in (0, 1, 2)]
    ended: list[Sequence[Epoch | None]] = []
    replicas = engine.replicate(model, plans)
    ended.extend(replicas.fit(samples, recipes, plans))
    histories = Histories(3, ended)
    assert list(replicas.failures) == [1]
    error = replicas.failures[1]
    assert isinstance(error, DivergedError)
    assert len(histories[1]) == error.epoch - 1 < 30
    assert [len(histories[r]) for r in (0, 2)] == [30, 30]
    assert [epochs[1] is None for epochs in ended] == [
        epoch >= error.epoch for epoch in range(1, 31)
    ]
    assert histories[0][-1].running_loss < histories[0][0].running_loss
    if name == "numpy":
        single = engine.build(model, seed=1)
        with pytest.raises(DivergedError) as raised:
            train(engine, single, samples, recipes[1], plans[1])
        assert str(raised.value) == str(error)
        np.testing.assert_array_equal(
            replicas.weights(1)["dense_1.kernel"], engine.weights(single)["dense_1.kernel"]
        )


LINE = Model("line", (3,), (Dense(2),))
TEN = Samples(np.zeros((10, 3), "float32"), np.zeros(10, int))
NINE = Samples(TEN.x[:9], TEN.y[:9])


@pytest.mark.parametrize(
    ("models", "recipes", "samples", "replicas", "said"),
    [
        (LINE, Recipe(batch_size=5), TEN, 0, "replicas is 0; expected an integer of at least 1"),
        (
            LINE,
            [Recipe(batch_size=5), Recipe(batch_size=2)],
            TEN,
            2,
            "replica 1 has batch_size 2, replica 0 5",
        ),
        (
            LINE,
            [Recipe(batch_size=5), Recipe(Adam(), batch_size=5)],
            TEN,
            2,
            "replica 1 has optimizer",
        ),
        (LINE, [Recipe(batch_size=5)], TEN, 2, "2 replicas take one recipe, or 2, not 1"),
        (
            [LINE, Model("two", (3,), (Dense(4),))],
            Recipe(batch_size=5),
            TEN,
            2,
            "replica 1 has layers",
        ),
        (LINE, Recipe(batch_size=5), [TEN, NINE], 2, r"replica 1 has samples of shape \(9, 3\)"),
        (
            LINE,
            Recipe(batch_size=5),
            [TEN],
            2,
            "2 replicas take the samples of all, or 2 of their own, not 1",
        ),
        (
            LINE,
            Recipe(batch_size=11),
            TEN,
            2,
            "batch_size is 11, but the data have 10 training samples",
        ),
        (
            LINE,
            Recipe(batch_size=5),
            Samples(TEN.x, TEN.y + 2),
            2,
            r"y\[0\] is 2, but the network has 2 outputs",
        ),
    ],
)
@pytest.mark.parametrize("name", ["numpy", "numba", "torch"])
def test_arguments_that_do_not_fit_are_refused_in_one_line(
    name: str,
    models: Model | list[Model],
    recipes: Recipe | list[Recipe],
    samples: Samples | list[Samples],
    replicas: int,
    said: str,
) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    plans = [Plan(seed) for seed in range(replicas)]
    recipes = (
        way(engine, recipes)
        if isinstance(recipes, Recipe)
        else [way(engine, recipe) for recipe in recipes]
    )
    with pytest.raises(UserError, match=said) as error:
        train_replicas(engine.replicate(models, plans), samples, recipes, plans)
    assert isinstance(error.value, SpecError | DataError)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "keras"])
def test_a_replica_that_fails_keeps_finite_weights(name: str) -> None:
    """Weights and moving statistics are those before the batch whose loss was not finite."""
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    model = way(engine, Model("normed", (3,), (BatchNorm(), Dense(2))))
    samples = samples_for(Recipe().loss, model, 0, 20)
    samples.x[13] = np.inf
    plans = [Plan(0), Plan(1)]
    own = [samples, samples_for(Recipe().loss, model, 1, 20)]
    replicas = engine.replicate(model, plans)
    train_replicas(replicas, own, way(engine, Recipe(SGD(0.1), batch_size=5, epochs=2)), plans)
    assert list(replicas.failures) == [0]
    for replica in range(2):
        for tensor, values in replicas.weights(replica).items():
            assert np.isfinite(values).all(), (replica, tensor)


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "keras"])
def test_each_replica_has_its_plan(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    recipe = way(engine, Recipe(batch_size=5))
    for plans, said in (
        ([Plan(0)], "2 replicas take 2 plans, not 1"),
        ([Plan(0), Plan(1, steps=3)], "replica 1 has a plan of steps=3"),
    ):
        with pytest.raises(SpecError, match=said):
            train_replicas(engine.replicate(LINE, [Plan(0), Plan(1)]), TEN, recipe, plans)


@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_an_engine_without_replicas_trains_one_by_one(seed: int) -> None:
    """The default of the base class gives what the batched program of numpy gives."""
    from dlsys_bench.engines.alignment import models_for_replicas
    from dlsys_bench.engines.replicas import OneByOne

    engine = create("numpy", dtype="float64")
    model = Model("small", (4,), (Dense(5), Activation("tanh"), Dense(3)))
    samples, recipe = (
        samples_for(Recipe().loss, model, seed),
        Recipe(SGD(0.1), batch_size=5, epochs=2),
    )
    plans = [Plan(seed), Plan(seed + 1)]
    one, batched = (
        OneByOne(engine, models_for_replicas(model, 2), plans),
        engine.replicate(model, plans),
    )
    for replicas in (one, batched):
        train_replicas(replicas, samples, recipe, plans)
    np.testing.assert_allclose(one.predict(samples.x), batched.predict(samples.x), rtol=1e-10)
    for actual, expected in zip(one.trace(samples.x), batched.trace(samples.x), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10)
