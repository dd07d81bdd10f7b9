"""The jax engine beyond the ladder: mixed conventions, compiled programs, donated buffers, and a
precision per thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from frameworks import framework_of

from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.data import Samples
from dlsys_bench.engines import work
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.history import Epoch, History
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DataError, DivergedError, EngineError
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.initializers import HeUniform
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

if reason := unavailable("jax"):
    pytest.skip(reason, allow_module_level=True)

import jax
import jax.numpy as jnp

from dlsys_bench.engines.jax import network, placement, steps, training

pytestmark = pytest.mark.xdist_group(framework_of("jax"))

NUMPY = NumpyEngine(dtype="float64")

# On a CPU, a network that convolves is trained step by step; any other in a loop on the device.
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


def same(one: Weights, other: Weights) -> bool:
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in other)


# --- mixed conventions, and the figures of epochs ---


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


@pytest.mark.rotates("mixed conventions on jax", 1)
@pytest.mark.parametrize(
    "optimizer", OPTIMIZERS, ids=lambda record: "-".join(map(str, record.to_dict().values()))
)
def test_any_mixture_of_conventions_is_followed(engine: Engine, optimizer: Optimizer) -> None:
    """The learning rate moves, since only then do the two kinds of velocity differ."""
    variances = (BatchNorm(), BatchNorm(moving_variance="unbiased"))
    model = Model(
        "mixed", (5,), (variances[0], Dense(4), variances[1], Activation("tanh"), Dense(3))
    )
    recipe = Recipe(
        optimizer, batch_size=8, epochs=3, schedule=CyclicalLearningRate(0.001, 0.05, 2)
    )
    found = first_divergence(NUMPY, engine, model, recipe, samples_for(model, 19), Plan(1), 1e-9)
    assert found is None, str(found)


@pytest.mark.rotates("figures on jax", 1)
@BOTH
@pytest.mark.parametrize(
    "sizes", [None, CyclicalBatchSize(2, 8), CyclicalBatchSize(2, 8, ends="early")], ids=str
)
@pytest.mark.parametrize("steps", [None, 5])
def test_the_figures_of_an_epoch_are_those_of_numpy(
    engine: Engine, model: Model, sizes: CyclicalBatchSize | None, steps: int | None
) -> None:
    """An epoch has more steps than the masks that are sent to the device at a time."""
    recipe = Recipe(Adam(0.01), batch_size=4, epochs=3, batch_sizes=sizes)
    samples, plan = samples_for(model, 90), Plan(4, steps=steps, parity=True)
    assert training.MASKED_AT_ONCE < 90 // 4
    histories: list[History] = []
    for each in (NUMPY, engine):
        net = each.build(model, Plan(4).weights(model))
        histories.append(train(each, net, samples, recipe, plan))
    for expected, actual in zip(*histories, strict=True):
        assert (actual.epoch, actual.steps) == (expected.epoch, expected.steps)
        assert actual.running_loss == pytest.approx(expected.running_loss, rel=1e-9)
        assert actual.running_accuracy == pytest.approx(expected.running_accuracy, rel=1e-12)
        for name, values in (expected.by_step or {}).items():
            assert (actual.by_step or {})[name] == pytest.approx(values, rel=1e-9), name


# --- a loss that is not finite ---


@BOTH
def test_a_training_that_diverges_keeps_the_weights_of_the_last_finite_batch(
    engine: Engine, model: Model
) -> None:
    """Jax stops where numpy does: no later batch of the epoch, of any size, moves the weights."""
    samples = samples_for(model)
    samples.x[13] = np.inf
    recipe, plan = (
        Recipe(SGD(0.1, momentum=0.9), batch_size=8, epochs=4, shuffle=False),
        Plan(2, parity=True),
    )
    ends, errors = [], []
    for each in (NUMPY, engine):
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


# --- compiled programs, buffers and precision ---


def test_other_seeds_rates_initial_weights_and_limits_compile_nothing_again(engine: Engine) -> None:
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
        program = steps.program(
            network.bare_model(model), steps.bare_recipe(recipe), size, True, True
        )
        assert program._cache_size() == 1
    assert steps.program.cache_info().misses == before


def test_a_program_of_little_work_trains_as_an_optimised_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(VECTORS, layers=(Dense(7), *VECTORS.layers[1:]))
    fast: list[bool] = []

    def noted(*given: Any) -> Any:
        fast.append(given[-1])
        return steps.program(*given)

    monkeypatch.setattr(training, "program", noted)

    def fit(updates: int) -> Weights:
        monkeypatch.setattr(work, "FEW_UPDATES", updates)
        net = engine.build(model, Plan(0).weights(model))
        recipe = Recipe(SGD(0.1), batch_size=8, epochs=2)
        train(engine, net, samples_for(model, 16), recipe, Plan(0, parity=True))
        return engine.weights(net)

    first, second = fit(4), fit(3)
    assert fast == [True, False], "four updates"
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("shape", "samples", "updates", "little"),
    [
        ((10,), 100, 64, True),
        ((10,), 100, 65, False),
        ((10,), 500_000, 1, True),
        ((10,), 500_001, 1, False),
        ((10, 10), 50_000, 1, True),  # A dense layer computes its products at each position.
        ((10, 10), 50_001, 1, False),
    ],
)
def test_work_counts_products_at_every_position(
    shape: tuple[int, ...], samples: int, updates: int, little: bool
) -> None:
    model = Model("dense", shape, (Dense(20, use_bias=False),))
    assert work.is_little(model, samples, updates) is little


def test_predictions_of_any_size_agree_and_few_sizes_are_compiled(engine: Engine) -> None:
    net, x = engine.build(linear(3, 2)), np.random.default_rng(0).standard_normal((2500, 3))
    expected = x @ engine.weights(net)["dense_1.kernel"]
    for count in (2500, 2049, 2048, 1500, 1025, 1024, 1023, 600, 8, 7, 5, 1, 0):
        found = engine.predict(net, x[:count])
        assert found.shape == (count, 2)
        np.testing.assert_allclose(found, expected[:count], rtol=1e-12, atol=1e-12)
    assert network.predictor(network.bare_model(net.model), True)._cache_size() == 3  # type: ignore[attr-defined]


@BOTH
def test_buffers_are_donated_and_copies_stay_as_they_were(engine: Engine, model: Model) -> None:
    start = Plan(0).weights(model)
    net = engine.build(model, start)
    held, shown = net.parameters, engine.weights(net)
    train(engine, net, samples_for(model), Recipe(SGD(0.1), batch_size=8, epochs=2), Plan(0))
    assert all(array.is_deleted() for array in held.values())
    assert same(shown, start), "a copy of the weights moved with the network"
    assert same(Plan(0).weights(model), start), "the initial weights moved with the network"
    shown = engine.weights(net)
    shown["dense_1.kernel"] += 1.0
    assert not same(engine.weights(net), shown)


def test_double_precision_belongs_to_the_engine_and_not_to_the_process(engine: Engine) -> None:
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


@pytest.mark.rotates("single precision on jax", 1)
@pytest.mark.parametrize("outer", [contextlib.nullcontext, wide])
@BOTH
def test_float32_is_the_default_and_is_kept(outer: Any, model: Model) -> None:
    """This also holds in a process that has enabled 64 bits."""
    with outer():
        single, samples = create("jax"), samples_for(model)
        net = single.build(model)
        train(single, net, samples, Recipe(Adam(), 8, 2), Plan(0))
        batch = Batch(samples.x, samples.y)
        found = single.gradients(net, batch, CategoricalCrossEntropy())
        assert found.x is not None
        arrays = [
            *single.weights(net).values(),
            *found.weights.values(),
            found.x,
            single.predict(net, samples.x),
        ]
        arrays += single.trace(net, batch)
    assert {array.dtype.name for array in arrays} == {"float32"}


def test_threads_train_in_different_precisions() -> None:
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


def test_the_clock_counts_neither_compilation_nor_the_work_of_the_caller(engine: Engine) -> None:
    model = replace(IMAGES, layers=(*IMAGES.layers[:-2], Dense(7), Dense(3)))
    net, recipe = engine.build(model), Recipe(RMSprop(), 8, 3)
    started, seconds = time.perf_counter(), []
    for epoch in engine.fit(net, samples_for(model), recipe, Plan(0)):
        seconds.append(epoch.seconds)
        time.sleep(0.2)
    took = time.perf_counter() - started
    assert all(0 < each < 0.2 for each in seconds) or seconds[0] < took / 3


# --- errors ---


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_jax_the_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert unavailable("jax") == "engine \"jax\" is not installed: pip install 'dlsys-bench[jax]'"
