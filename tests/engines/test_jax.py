"""What is jax's own: both conventions, own draws, programs compiled once, buffers given away, width
by thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.data import Samples, load, prepare
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import Epoch, History, train
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, DivergedError, EngineError
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import TRUNCATED_STDDEV, GlorotNormal, HeNormal, HeUniform
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy, Hinge, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find

if reason := unavailable("jax"):
    pytest.skip(reason, allow_module_level=True)

import jax
import jax.numpy as jnp

from dlsys_bench.engines.jax import network, placement, steps, training

NUMPY_RULES = NumpyEngine(dtype="float64")

# One that goes step by step on a CPU, since it convolves, and one whose steps are a loop on the
# device.
IMAGES = Model(
    "images",
    (6, 6, 2),
    (
        BatchNorm(moving_decay=0.9),
        Conv2D(3, (3, 3), padding="same"),
        Activation("tanh"),
        Dropout(0.2),
        MaxPool(),
        Flatten(),
        Dense(5),
        BatchNorm(moving_decay=0.9, moving_variance="unbiased"),
        Dense(3),
    ),
)
VECTORS = Model(
    "vectors",
    (5,),
    (Dense(8), BatchNorm(moving_decay=0.9), Activation("tanh"), Dropout(0.5), Dense(3)),
)
BOTH = pytest.mark.parametrize("model", [IMAGES, VECTORS], ids=lambda model: model.name)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return create("jax", dtype="float64")


def samples_for(model: Model, count: int = 30, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return Samples(
        generator.standard_normal((count, *model.input_shape)), generator.integers(0, 3, count)
    )


def linear(inputs: int, outputs: int = 1) -> Model:
    return Model("linear", (inputs,), (Dense(outputs, use_bias=False),))


def kernel(values: Any) -> Weights:
    return {"dense_1.kernel": np.asarray(values, float)}


def same(mine: Weights, theirs: Weights) -> bool:
    return all(np.array_equal(mine[name], theirs[name], equal_nan=True) for name in theirs)


# --- right, in either convention and in any mixture of the two ---


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in find("regularization")
        if case.name.removeprefix("regularization/")
        in (
            "lenet5-tanh/bn+dropout",
            "lenet5-sigmoid/bn+bn",
            "fashion/lenet5-relu+bn",
            "fashion-mlp/bn+dropout",
        )
    ],
    ids=lambda case: case.name,
)
def test_it_trains_by_torchs_convention_too(case: Case, engine: Engine) -> None:
    data = prepare(load("digits"), scaling="unit", dtype="float64").train
    recipe = to_convention("torch", replace(case.arm.recipes["full"], batch_size=32))
    model = to_convention("torch", case.arm.model)
    few = Samples(data.x[:200], data.y[:200])
    assert (
        first_divergence(NUMPY_RULES, engine, model, recipe, few, Plan(7, steps=50), 1e-7) is None
    )


HARD = [
    Conv2D(2, (4, 2), padding="same"),
    Conv2D(2, (3, 3), (2, 2), "same"),
    Conv2D(2, (2, 3), (1, 2), use_bias=False),
    MaxPool((2, 2), (1, 1)),
    MaxPool((3, 2), (2, 1)),
    AveragePool((2, 2), (1, 1)),
    AveragePool((3, 2), (2, 1)),
    BatchNorm(epsilon=0.1),
    Dropout(0.2),
    Dropout(0.0),
    Flatten(),
    *(Activation.of(function=function, negative_slope=0.25) for function in FUNCTIONS),
]


@pytest.mark.parametrize("layer", HARD, ids=lambda layer: f"{layer.kind} {layer.title()}")
@pytest.mark.parametrize("training", [True, False])
def test_each_layer_gives_what_numpy_gives_at_ties_and_zeros_too(
    engine: Engine, layer: Layer, training: bool
) -> None:
    """Of whole halves a max pool meets equals, and a relu the zero at which it has no
    derivative."""
    after = () if isinstance(layer, Flatten) else (Flatten(),)
    model = Model("hard", (6, 7, 2), (layer, *after, Dense(2)))
    x = np.round(2 * np.random.default_rng(0).standard_normal((5, 6, 7, 2))) / 2
    batch = Batch(x, np.ones((5, 2)), Plan(0).masks(model, 0, 5), training)
    weights = strategies.nonzero_weights(model, 0)
    nets = [(each, each.build(model, weights)) for each in (NUMPY_RULES, engine)]
    mine, theirs = (each.gradients(net, batch, MeanSquaredError()) for each, net in nets)
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-9)
    for name, gradient in (mine.weights | {"x": mine.x}).items():
        np.testing.assert_allclose(
            (theirs.weights | {"x": theirs.x})[name], gradient, rtol=1e-9, atol=1e-9
        )
    for one, other in zip(*(each.trace(net, batch) for each, net in nets), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)


OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, 0.9),
    SGD(0.1, 0.9, nesterov=True),
    SGD(0.1, 0.9, velocity="gradient"),
    SGD(0.1, 0.9, nesterov=True, velocity="gradient"),
    SGD(0.1, 0.9, 0.5, velocity="gradient"),
    Adam(0.01, 0.8, 0.9, 1e-3),
    Adam(0.01, 0.8, 0.9, 1e-3, "after"),
    RMSprop(0.01, 0.8, 1e-3),
    RMSprop(0.01, 0.8, 1e-3, "outside"),
]


@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=lambda record: "-".join(map(str, record.to_dict().values()))
)
def test_any_mixture_of_conventions_is_followed_as_it_stands(
    engine: Engine, optimizer: Optimizer
) -> None:
    """Under a rate that moves, where the two velocities part; either variance beside either."""
    variances = (BatchNorm(), BatchNorm(moving_variance="unbiased"))
    model = Model(
        "mixed", (5,), (variances[0], Dense(4), variances[1], Activation("tanh"), Dense(3))
    )
    recipe = Recipe(
        optimizer, batch_size=8, epochs=3, schedule=CyclicalLearningRate(0.001, 0.05, 2)
    )
    found = first_divergence(
        NUMPY_RULES, engine, model, recipe, samples_for(model, 19), Plan(1), 1e-9
    )
    assert found is None, str(found)


@BOTH
@pytest.mark.parametrize(
    "sizes", [None, CyclicalBatchSize(2, 8), CyclicalBatchSize(2, 8, ends="early")], ids=str
)
@pytest.mark.parametrize("steps", [None, 5])
def test_its_figures_are_numpys(
    engine: Engine, model: Model, sizes: CyclicalBatchSize | None, steps: int | None
) -> None:
    """Weighted by the batches, the last one smaller; of more steps than masks are sent for at a
    time."""
    recipe = Recipe(Adam(0.01), batch_size=4, epochs=3, batch_sizes=sizes)
    samples, plan = samples_for(model, 90), Plan(4, steps=steps, parity=True)
    assert training.MASKED_AT_ONCE < 90 // 4
    histories: list[History] = []
    for each in (NUMPY_RULES, engine):
        net = each.build(model, Plan(4).weights(model))
        histories.append(train(each, net, samples, recipe, plan))
    for mine, theirs in zip(*histories, strict=True):
        assert (mine.epoch, mine.steps) == (theirs.epoch, theirs.steps)
        assert theirs.running_loss == pytest.approx(mine.running_loss, rel=1e-9)
        assert theirs.running_accuracy == pytest.approx(mine.running_accuracy, rel=1e-12)
        for name, values in (mine.by_step or {}).items():
            assert (theirs.by_step or {})[name] == pytest.approx(values, rel=1e-9), name


# --- draws of its own ---


def seen(engine: Engine, steps: int, plan: Plan, shuffle: bool = True) -> list[set[int]]:
    """Which of 17 samples each epoch saw before the training stopped: at a weight of zero their
    squared errors are powers of two, and the rate is zero too."""
    samples = Samples(np.ones((17, 1)), np.sqrt(2.0 ** np.arange(17))[:, None])
    recipe = Recipe(SGD(0.0), 2, 3, steps, MeanSquaredError(), shuffle)
    found, before = [], 0
    for epoch in train(engine, engine.build(linear(1), kernel([[0.0]])), samples, recipe, plan):
        # The last batch of an epoch has one sample.
        total = round(epoch.running_loss * min(2 * (epoch.steps - before), 17))
        found.append({place for place in range(17) if total >> place & 1})
        before = epoch.steps
    return found


def test_native_shuffling_differs_between_epochs_and_follows_the_seed(engine: Engine) -> None:
    everything = set(range(17))
    first, second = seen(engine, 3, Plan(1))[0], seen(engine, 12, Plan(1))
    assert second[0] == everything
    assert len(first) == len(second[1]) == 6
    assert first != second[1], "the second epoch began as the first"
    assert max(first | second[1]) > 8, "only neighbours change places"
    assert first == seen(engine, 3, Plan(1))[0], "the same seed gave another order"
    assert first != seen(engine, 3, Plan(2))[0], "another seed gave the same order"
    assert seen(engine, 12, Plan(1), shuffle=False) == [everything, set(range(6))]
    plan = Plan(3, parity=True)
    assert seen(engine, 12, plan) == [everything, set(plan.order(2, 17)[:6].tolist())]


def kept(engine: Engine, seed: int, epochs: int = 1) -> Array:
    """How often each of 200 inputs was kept in four samples an epoch. (200,)"""
    model = Model("drop", (200,), (Dropout(0.25), Dense(1, use_bias=False)))
    net = engine.build(model, kernel(np.zeros((200, 1))))
    recipe = Recipe(SGD(2.0**-10), 2, epochs, loss=Hinge())
    train(engine, net, Samples(np.ones((4, 200)), np.ones(4, int)), recipe, Plan(seed))
    # Below the margin the hinge has slope -1: every update adds the rate times the mean of what it
    # kept, over 0.75.
    return engine.weights(net)["dense_1.kernel"][:, 0] * 2**10 * 2 * 0.75


def test_native_dropout_follows_the_seed_and_draws_anew_each_step(engine: Engine) -> None:
    one, two = kept(engine, 1), kept(engine, 1, epochs=2)
    np.testing.assert_array_equal(one, kept(engine, 1))
    assert (one != kept(engine, 2)).any()
    np.testing.assert_allclose(
        one, one.round(), atol=1e-9, err_msg="what is kept is not scaled by 1 / 0.75"
    )
    # 1600 draws: 0.75 within five deviations of their mean.
    assert two.sum() / 1600 == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 1600) ** 0.5)
    # Were a step's draw the one before's, what is kept would come in pairs; an epoch's, all would
    # be even.
    assert (one.round() % 2 == 1).sum() > 20
    assert (two.round() % 2 == 1).sum() > 20


def test_without_masks_each_layer_and_each_pass_draws_for_itself(engine: Engine) -> None:
    model = Model("drop", (1000,), (Dropout(0.2), Dropout(0.2)))
    net, batch = engine.build(model), Batch(np.ones((10, 1000)), np.zeros((10, 1000)))
    first, second = engine.trace(net, batch)
    assert set(np.unique(first)) <= {0.0, 1.25}
    assert np.mean(first == 0) == pytest.approx(0.2, abs=0.02)
    assert np.mean(second[first != 0] == 0) == pytest.approx(0.2, abs=0.02), (
        "two layers draw the same"
    )
    assert (engine.trace(net, batch)[0] != first).any(), "two passes draw the same"
    assert (engine.trace(net, batch._replace(training=False))[1] == 1).all()


@pytest.mark.parametrize("start", [GlorotNormal, HeNormal])
def test_a_normal_start_is_cut_off_or_not_as_the_record_says(engine: Engine, start: type) -> None:
    for truncated in (True, False):
        record = start(truncated=truncated)
        layer = Dense(300, kernel_initializer=record, bias_initializer=record)
        for name, values in engine.weights(engine.build(Model("m", (300,), (layer,)))).items():
            spread = (2.0 / (600 if start is GlorotNormal else 300)) ** 0.5
            assert values.std() == pytest.approx(spread, rel=0.02 if values.ndim > 1 else 0.2), name
            if values.ndim > 1:
                assert (np.abs(values).max() <= 2 * spread / TRUNCATED_STDDEV + 1e-9) == truncated


# --- a loss that is not finite ---


@BOTH
def test_a_training_that_diverges_keeps_what_the_last_finite_batch_left(
    engine: Engine, model: Model
) -> None:
    """Where numpy stops, jax stops: later batches of the epoch, of another size too, move
    nothing."""
    samples = samples_for(model)
    samples.x[13] = np.inf
    recipe, plan = (
        Recipe(SGD(0.1, momentum=0.9), batch_size=8, epochs=4, shuffle=False),
        Plan(2, parity=True),
    )
    ends, errors = [], []
    for each in (NUMPY_RULES, engine):
        net, epochs = each.build(model, Plan(2).weights(model)), list[Epoch]()
        with pytest.raises(DivergedError) as raised:
            epochs.extend(each.fit(net, samples, recipe, plan))
        assert not epochs
        ends.append(each.weights(net))
        errors.append((raised.value.epoch, raised.value.batch))
    assert errors == [(1, 2), (1, 2)]
    start = Plan(2).weights(model)
    for name, values in ends[0].items():
        assert np.isfinite(values).all()
        np.testing.assert_allclose(ends[1][name], values, rtol=0, atol=1e-9, err_msg=name)
    assert np.abs(ends[1]["dense_1.kernel"] - start["dense_1.kernel"]).max() > 1e-4, (
        "the first batch moved nothing"
    )
    # And the network can be used and trained again.
    samples.x[13] = 0.0
    train(engine, net, samples, recipe, plan)
    assert np.isfinite(engine.predict(net, samples.x)).all()


def test_the_batch_and_the_epoch_of_a_loss_that_grows_are_named(engine: Engine) -> None:
    # The error grows by a factor of 1 - 2 rate at each update, its square past float64 at the fifth
    # batch.
    recipe = Recipe(SGD(2.0**127), 1, 2, loss=MeanSquaredError(), shuffle=False)
    net, epochs = engine.build(linear(1), kernel([[1.0]])), list[Epoch]()
    with pytest.raises(DivergedError) as raised:
        epochs.extend(engine.fit(net, Samples(np.ones((3, 1)), np.zeros((3, 1))), recipe, Plan(0)))
    assert (raised.value.epoch, raised.value.batch, raised.value.loss) == (2, 2, np.inf)
    assert [epoch.epoch for epoch in epochs] == [1]


# --- what jax makes of it: programs, buffers, width ---


def test_nothing_is_compiled_again_for_other_seeds_rates_starts_or_limits(engine: Engine) -> None:
    model = replace(VECTORS, layers=(Dense(9), *VECTORS.layers[1:]))
    samples, recipe = samples_for(model, 30), Recipe(SGD(0.1), batch_size=8, epochs=2)

    def fit(model: Model, recipe: Recipe, plan: Plan) -> None:
        net = engine.build(model, plan.weights(model))
        train(engine, net, samples, recipe, plan)

    fit(model, recipe, Plan(0))
    before = steps.program.cache_info().misses
    other = replace(
        model, name="other", layers=(Dense(9, kernel_initializer=HeUniform()), *model.layers[1:])
    )
    fit(other, recipe, Plan(1, steps=5))
    fit(model, replace(recipe, optimizer=SGD(0.3), epochs=7), Plan(2))
    fit(
        model,
        replace(recipe, schedule=CyclicalLearningRate(0.1, 0.2, 3), shuffle=False),
        Plan(2, steps=3),
    )
    assert steps.program.cache_info().misses == before
    for size in (8, 6):
        bare = replace(recipe.optimizer, learning_rate=0.0)
        assert (
            steps.program(network.skeleton(model), recipe.loss, bare, size, True)._cache_size() == 1
        )
    assert steps.program.cache_info().misses == before


def test_few_sizes_of_a_prediction_are_compiled_and_all_give_the_same(engine: Engine) -> None:
    net, x = engine.build(linear(3, 2)), np.random.default_rng(0).standard_normal((2500, 3))
    expected = x @ engine.weights(net)["dense_1.kernel"]
    for count in (2500, 2049, 2048, 1500, 1025, 1024, 1023, 600, 8, 7, 5, 1, 0):
        found = engine.predict(net, x[:count])
        assert found.shape == (count, 2)
        np.testing.assert_allclose(found, expected[:count], rtol=1e-12, atol=1e-12)
    assert network.predictor(network.skeleton(net.model))._cache_size() == 3  # type: ignore[attr-defined]


@BOTH
def test_buffers_are_given_away_and_what_was_handed_out_stays(engine: Engine, model: Model) -> None:
    start = Plan(0).weights(model)
    net = engine.build(model, start)
    held, shown = net.parameters, engine.weights(net)
    train(engine, net, samples_for(model), Recipe(SGD(0.1), batch_size=8, epochs=2), Plan(0))
    assert all(array.is_deleted() for array in held.values())
    assert same(shown, start), "a copy of the weights moved with them"
    assert same(Plan(0).weights(model), start), "the weights it was given moved"
    shown = engine.weights(net)
    shown["dense_1.kernel"] += 1.0
    assert not same(engine.weights(net), shown)


@BOTH
def test_a_training_broken_off_leaves_the_network_as_the_epoch_did(
    engine: Engine, model: Model
) -> None:
    net, ends = engine.build(model, Plan(0).weights(model)), list[Weights]()
    recipe = Recipe(SGD(0.1), batch_size=8, epochs=5)
    training = engine.fit(net, samples_for(model), recipe, Plan(0))
    for _ in range(2):
        next(training)
        ends.append(engine.weights(net))
    training.close()
    assert not same(*ends)
    assert same(engine.weights(net), ends[1])


def test_width_is_the_engines_own_and_no_flag_of_the_process(engine: Engine) -> None:
    def outside() -> None:
        assert jnp.ones(2).dtype == jnp.float32
        assert not jax.config.jax_enable_x64

    outside()
    net = engine.build(VECTORS)
    recipe = Recipe(batch_size=8, epochs=2)
    for _ in engine.fit(net, samples_for(VECTORS), recipe, Plan(0)):
        outside()
    engine.gradients(net, Batch(*vars(samples_for(VECTORS)).values()), CategoricalCrossEntropy())
    outside()
    assert {values.dtype.name for values in engine.weights(net).values()} == {"float64"}


@contextlib.contextmanager
def wide() -> Iterator[None]:
    with placement.enable_x64(True):
        yield


@pytest.mark.parametrize("outer", [contextlib.nullcontext, wide])
@BOTH
def test_float32_is_the_default_and_stays(outer: Any, model: Model) -> None:
    """In a process that keeps 64 bits too."""
    with outer():
        single, samples = create("jax"), samples_for(model)
        net = single.build(model)
        train(single, net, samples, Recipe(Adam(), 8, 2), Plan(0))
        batch = Batch(samples.x, samples.y)
        found = single.gradients(net, batch, CategoricalCrossEntropy())
        arrays = [
            *single.weights(net).values(),
            *found.weights.values(),
            found.x,
            single.predict(net, samples.x),
        ]
        arrays += single.trace(net, batch)
    assert {array.dtype.name for array in arrays} == {"float32"}


def test_threads_train_networks_of_their_own_in_widths_of_their_own() -> None:
    def trained(job: tuple[str, int]) -> Weights:
        own = create("jax", dtype=job[0])
        net = own.build(VECTORS, seed=job[1])
        train(
            own,
            net,
            samples_for(VECTORS),
            Recipe(Adam(0.01), batch_size=8, epochs=20),
            Plan(job[1]),
        )
        return own.weights(net)

    jobs = [(dtype, seed) for seed in range(3) for dtype in ("float32", "float64")]
    with ThreadPoolExecutor(4) as pool:
        for job, found in zip(jobs, pool.map(trained, jobs), strict=True):
            assert same(found, trained(job)), job


def test_the_clock_runs_for_training_alone(engine: Engine) -> None:
    """Neither what is compiled before nor what is done between is counted."""
    model = replace(IMAGES, layers=(*IMAGES.layers[:-2], Dense(7), Dense(3)))
    started = time.perf_counter()
    history = train(
        engine,
        engine.build(model),
        samples_for(model),
        Recipe(RMSprop(), 8, 3),
        Plan(0),
        lambda epoch: time.sleep(0.2),
    )
    took = time.perf_counter() - started
    assert all(0 < epoch.seconds < 0.2 for epoch in history) or history[0].seconds < took / 3


# --- what is refused ---


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(platform: str) -> list[Any]:
        raise RuntimeError(f"Unknown backend {platform}")

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(
        EngineError, match=r'engine "jax" finds no CUDA device: use --device cpu, or .* pip install'
    ):
        create("jax", device="cuda")


def test_labels_out_of_range_are_refused(engine: Engine) -> None:
    net, samples = engine.build(linear(1, 3)), Samples(np.ones((2, 1)), np.array([0, 3]))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        train(engine, net, samples, Recipe(), Plan(0))
    with pytest.raises(DataError, match=r"y\[1\] is 3"):
        engine.gradients(net, Batch(samples.x, samples.y), CategoricalCrossEntropy())


def test_who_lacks_jax_is_told_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert unavailable("jax") == "engine \"jax\" is not installed: pip install 'dlsys-bench[jax]'"
