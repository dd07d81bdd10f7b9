"""Compiled programs of the numba engine train as numpy does, whatever the number of threads."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.cli.training import WorkOptions, work_of
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import shards as engine_shards
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DivergedError, SpecError
from dlsys_bench.spec.clipping import ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    Shape,
)
from dlsys_bench.spec.losses import (
    CategoricalCrossEntropy,
    HalfMeanSquaredError,
    Hinge,
    Loss,
    MeanSquaredError,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

if reason := unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.program import program
from dlsys_bench.engines.numba.program.functions import SIGMOID as SIGMOID_
from dlsys_bench.engines.numba.program.functions import TANH as TANH_
from dlsys_bench.engines.numba.program.functions import activate
from dlsys_bench.engines.numba.program.lanes import LANES, load, store
from dlsys_bench.engines.numba.program.products import multiply
from dlsys_bench.engines.numba.program.tables import block_of, missing_layer, missing_option

RELU, LEAKY = Activation("relu"), Activation("leaky_relu", negative_slope=0.25)
WIDE = Model(
    "wide",
    (4, 5, 10),
    (Flatten(), Dense(100), RELU, Dropout(0.3), BatchNorm(0.1), Dense(150), LEAKY, Dense(3)),
)
TANH, SIGMOID = Activation("tanh"), Activation("sigmoid")
IMAGES = Model(
    "images",
    (12, 11, 2),
    (
        Dropout(0.2),
        Conv2D(6, (5, 5), padding="same"),
        TANH,
        Dropout(0.3),
        BatchNorm(0.1),
        AveragePool((2, 1)),
        Conv2D(7, (3, 4)),
        BatchNorm(0.1, 0.5),
        SIGMOID,
        AveragePool((2, 2), (1, 1)),
        Conv2D(9, (3, 7)),
        TANH,
        Dropout(0.3),
        Flatten(),
        Dense(3),
    ),
)
RNG = np.random.default_rng(0)


def samples_of(model: Model, loss: Loss, count: int) -> Samples:
    """Return random samples that suit a model and a loss."""
    x = RNG.standard_normal((count, *model.input_shape))
    if loss.targets == "labels":
        return Samples(x, RNG.integers(0, model.output_shape[0], count))
    return Samples(x, RNG.standard_normal((count, *model.output_shape)))


def trained(
    engine: str, model: Model, recipe: Recipe, samples: Samples, plan: Plan, dtype: str = "float64"
) -> tuple[Weights, list[tuple[float, float | None]]]:
    """Return the weights after a training, and the running figures of its epochs."""
    made = create(engine, "cpu", dtype)
    net = made.build(model, seed=1)
    history = train(made, net, samples, recipe, plan)
    return made.weights(net), [(e.running_loss, e.running_accuracy) for e in history]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list of the programs that are created from now on."""
    made: list[Any] = []
    start = program.Program.__init__

    def noted(self: Any, *arguments: Any) -> None:
        made.append(self)
        start(self, *arguments)

    monkeypatch.setattr(program.Program, "__init__", noted)
    return made


functions = st.sampled_from([RELU, LEAKY, Activation("linear"), TANH, SIGMOID])
either = functions | st.sampled_from(
    [BatchNorm(0.1), BatchNorm(0.1, 0.5), Dropout(0.5), Dropout(0.0), Dropout(0.9)]
)
hidden = (
    st.builds(Dense, st.sampled_from([1, 3, 16, 70]), st.booleans()) | either | st.just(Flatten())
)
on_images = either | st.one_of(
    st.builds(
        Conv2D,
        st.integers(1, 9),
        st.tuples(st.integers(1, 4), st.integers(1, 7)),
        padding=st.sampled_from(["same", "valid"]),
        use_bias=st.booleans(),
    ),
    st.builds(
        AveragePool,
        st.tuples(st.integers(1, 2), st.integers(1, 3)),
        st.sampled_from([None, (1, 1), (2, 1), (1, 3)]),
    ),
)


@st.composite
def image_models(draw: st.DrawFn) -> Model:
    """Draw a chain of layers on images that ends in dense layers."""
    shape: Shape = draw(st.tuples(st.integers(4, 9), st.integers(7, 16), st.integers(1, 3)))
    found, layers = shape, list[Layer]()
    for layer in draw(st.lists(on_images, min_size=1, max_size=6)):
        try:
            found = layer.output_shape(found)
        except SpecError:
            # The image is smaller than the window.
            continue
        layers.append(layer)
    tail = draw(st.lists(either, max_size=2))
    return Model("drawn", shape, (*layers, Flatten(), *tail, Dense(3)))


@given(
    inputs=st.sampled_from([1, 3, 50, 100]),
    layers=st.lists(hidden, max_size=7),
    outputs=st.integers(2, 3),
    optimizer=st.sampled_from(
        [
            SGD(0.05),
            SGD(0.05, momentum=0.9, nesterov=True),
            SGD(0.05, momentum=0.9, dampening=0.5, velocity="gradient"),
            Adam(0.01, epsilon=0.1),
            Adam(0.01, epsilon=0.1, epsilon_added="after"),
            RMSprop(0.01, epsilon=0.1),
            RMSprop(0.01, epsilon=0.1, epsilon_added="outside"),
        ]
    ),
    loss=st.sampled_from([CategoricalCrossEntropy(), MeanSquaredError(), HalfMeanSquaredError()]),
    batch=st.integers(3, 20),
    shuffle=st.booleans(),
    schedule=st.sampled_from([None, CyclicalLearningRate(0.01, 0.05, 2)]),
)
def test_a_program_trains_as_numpy_does(
    inputs: int,
    layers: list[Layer],
    outputs: int,
    optimizer: Optimizer,
    loss: Loss,
    batch: int,
    shuffle: bool,
    schedule: CyclicalLearningRate | None,
) -> None:
    model = Model("drawn", (inputs,), (*layers, Dense(outputs)))
    recipe = Recipe(optimizer, batch, epochs=2, loss=loss, shuffle=shuffle, schedule=schedule)
    assert_trains_as_numpy_does(model, recipe, 2 * batch)


@given(model=image_models(), batch=st.sampled_from([3, 16, 21, 50]), extra=st.integers(0, 17))
def test_a_program_on_images_trains_as_numpy_does(model: Model, batch: int, extra: int) -> None:
    """The last chunk of a batch may have fewer samples than a vector has lanes."""
    recipe = Recipe(SGD(0.05, momentum=0.9), batch, epochs=2)
    assert_trains_as_numpy_does(model, recipe, batch + extra)


@pytest.mark.parametrize(
    ("window", "steps"),
    [((2, 3), (1, 1)), ((2, 2), (2, 2)), ((1, 2), (2, 3)), ((3, 2), (2, 2))],
    ids=["overlapping", "rest", "gaps", "mixed"],
)
def test_a_pool_after_a_batch_norm_may_have_any_windows(
    window: tuple[int, int], steps: tuple[int, int]
) -> None:
    """The two are computed together, and each value has the gradients of all its windows."""
    pool = AveragePool(window, steps)
    layers = Conv2D(3, (2, 2)), BatchNorm(0.1), pool, Conv2D(2, (2, 1)), Flatten(), Dense(3)
    model = Model("pooled", (8, 8, 1), layers)
    assert_trains_as_numpy_does(model, Recipe(SGD(0.05, momentum=0.9), 20, epochs=2), 40)


def assert_trains_as_numpy_does(model: Model, recipe: Recipe, count: int) -> None:
    """Assert that a program trains on `count` samples as the numpy engine does."""
    assert missing_layer(model) is None
    assert missing_option(recipe) is None
    samples, plan = samples_of(model, recipe.loss, count), Plan(3, parity=True)
    weights, figures = trained("numba", model, recipe, samples, plan)
    expected, expected_figures = trained("numpy", model, recipe, samples, plan)
    for name, values in expected.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-6, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(
        np.array(figures, float), np.array(expected_figures, float), rtol=1e-7
    )


@pytest.mark.parametrize(
    ("model", "dtype", "samples"),
    [
        (WIDE, "float32", 8),
        (WIDE, "float64", 8),
        (WIDE, "float32", 50),
        (WIDE, "float64", 50),
        (IMAGES, "float64", 100),
        pytest.param(IMAGES, "float32", 100, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_bits_do_not_depend_on_the_threads(
    model: Model, dtype: str, samples: int, monkeypatch: pytest.MonkeyPatch, programs: list[Any]
) -> None:
    data = samples_of(model, CategoricalCrossEntropy(), 3 * samples + 3)
    recipe = Recipe(Adam(0.01), batch_size=samples, epochs=2)
    found = []
    for threads in ("1", "2", "3", "8"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(trained("numba", model, recipe, data, Plan(5), dtype))
    assert len(programs) == 4
    for weights, figures in found[1:]:
        assert figures == found[0][1]
        for name, values in weights.items():
            np.testing.assert_array_equal(values, found[0][0][name], err_msg=name)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("model", [WIDE, IMAGES], ids=lambda model: model.name)
def test_the_masks_are_those_of_the_rules(
    model: Model, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a plan, a training by the rules drops out the same units, of each shard."""
    monkeypatch.setattr(engine_shards, "MIN_SHARD_VALUES", 1 if shards > 1 else 10**9)
    data = samples_of(model, CategoricalCrossEntropy(), 180)
    recipe = Recipe(SGD(0.05), batch_size=75, epochs=2)
    weights, _ = trained("numba", model, recipe, data, Plan(5))
    monkeypatch.setattr(program, "missing_layer", lambda model: "dense_1")
    expected, _ = trained("numba", model, recipe, data, Plan(5))
    for name, values in expected.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-7, atol=1e-9, err_msg=name)


def test_concurrent_trainings_do_not_affect_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    data = samples_of(WIDE, CategoricalCrossEntropy(), 60)
    recipe = Recipe(SGD(0.05), batch_size=20, epochs=2)
    expected = [trained("numba", WIDE, recipe, data, Plan(seed)) for seed in range(3)]
    found: dict[int, Any] = {}

    def one(seed: int) -> None:
        found[seed] = trained("numba", WIDE, recipe, data, Plan(seed))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=900)
    for seed, (weights, figures) in enumerate(expected):
        assert found[seed][1] == figures
        assert all(np.array_equal(found[seed][0][name], values) for name, values in weights.items())


def test_a_loss_that_is_not_finite_ends_the_training_before_its_update() -> None:
    model = Model("diverging", (3,), (BatchNorm(), Dense(2)))
    data = samples_of(model, MeanSquaredError(), 12)
    data.y[9] = np.inf
    recipe = Recipe(SGD(0.01), 4, epochs=1, loss=MeanSquaredError(), shuffle=False)
    made = create("numba", "cpu", "float64")
    net = made.build(model, seed=1)
    with pytest.raises(DivergedError) as raised:
        train(made, net, data, recipe, Plan(1))
    assert (raised.value.epoch, raised.value.batch) == (1, 3)
    before, _ = trained("numba", model, replace(recipe, steps=2), data, Plan(1))
    for name, values in before.items():
        np.testing.assert_array_equal(made.weights(net)[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("layers", "missing"),
    [
        ((Dense(4), Activation("softmax"), Dense(2)), "activation_1"),
        ((Conv2D(4, (3, 3)), MaxPool(), Flatten(), Dense(2)), "max_pool_1"),
        ((Conv2D(4, (3, 3), strides=(2, 1)), Flatten(), Dense(2)), "conv2d_1"),
        ((Conv2D(4, (2, 2), dilation=(2, 2)), Flatten(), Dense(2)), "conv2d_1"),
        ((Dense(4), RELU, Dense(2), RELU), "activation_2"),
    ],
)
def test_a_layer_without_a_compiled_form_is_named(
    layers: tuple[Layer, ...], missing: str, programs: list[Any]
) -> None:
    of_images = any(isinstance(layer, Flatten) for layer in layers)
    model = Model("mixed", (6, 6, 2) if of_images else (3,), layers)
    assert missing_layer(model) == missing
    assert f"layer {missing} has no compiled form" in create("numba").remark(model, Recipe())
    loss = CategoricalCrossEntropy()
    trained("numba", model, Recipe(epochs=1, batch_size=4), samples_of(model, loss, 8), Plan(1))
    assert programs == []


def test_an_option_without_a_compiled_form_is_named() -> None:
    assert missing_option(Recipe()) is None
    assert missing_option(Recipe(loss=Hinge())) == "loss"
    assert missing_option(Recipe(loss=CategoricalCrossEntropy(label_smoothing=0.1))) == "loss"
    assert missing_option(Recipe(SGD(decay=WeightDecay(0.1)))) == "decay"
    assert missing_option(Recipe(clip=ClipValue(1.0))) == "clip"
    model = Model("dense", (3,), (Dense(2),))
    remark = create("numba").remark
    assert remark(model, Recipe(clip=ClipValue(1.0))).startswith("option clip has no compiled form")
    assert remark(model, Recipe()) == ""


def test_a_command_states_what_is_not_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    options = WorkOptions(("numba",), "cpu", "digits", None, "quick", None)
    work_of("regularization/fashion/lenet5-relu", options)
    assert "numba: layer max_pool_1 has no compiled form" in capsys.readouterr().err
    work_of("regularization/fashion/ffn", options)
    assert "compiled" not in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tanh_and_sigmoid_of_vectors_are_exact(dtype: str) -> None:
    """The errors are in units of the last place."""
    x = np.concatenate([RNG.normal(0, size, 4096) for size in (1e-4, 1, 10)]).astype(dtype)
    x = np.append(x, [0, -0.0, np.inf, -np.inf, np.nan, *[700.0] * 11]).astype(dtype)
    exact = x.astype(np.longdouble)
    for function, expected in ((TANH_, np.tanh(exact)), (SIGMOID_, 1 / (1 + np.exp(-exact)))):
        found = np.empty_like(x)
        apply(function, x, found)
        seen = (np.abs(x) < 80) | np.isinf(x)
        error = np.abs(found - expected)[seen]
        assert (error <= 4 * np.spacing(np.abs(expected[seen]).astype(dtype)) + 1e-34).all()
        assert np.isnan(found[np.isnan(x)]).all()


@kernel
def apply(function: int, x: Any, found: Any) -> None:
    """Compute a function of the vectors of an array."""
    for k in range(0, x.size, LANES):
        store(found, k, activate(function, load(x, k), x.dtype.type(0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_tiles_of_every_size(dtype: str) -> None:
    """The columns are four vectors, two, one and a part of one, the rows as many as every tile."""
    (m, n, k), slope, width = (13, 7 * LANES + 5, 9), np.dtype(dtype).type(0.25), 8 * LANES
    a, b = RNG.standard_normal((k, m)).astype(dtype), RNG.standard_normal((k, width)).astype(dtype)
    bias, found = RNG.standard_normal(width).astype(dtype), np.full((m, width), np.nan, dtype)
    places = (0, 0, 0), (1, m, width, width)
    product(a.ravel(), b.ravel(), bias, found.ravel(), (m, n, k), places, slope)
    whole = a.T.astype(float) @ b + bias
    expected = np.where(whole > 0, whole, 0.25 * whole)[:, :n]
    np.testing.assert_allclose(
        found[:, :n], expected, rtol=0, atol=1e2 * float(np.finfo(dtype).eps)
    )
    assert np.isnan(found[:, n:]).all()


@kernel
def product(a: Any, b: Any, bias: Any, c: Any, sizes: Any, places: Any, slope: Any) -> None:
    """Compute a product by tiles."""
    multiply(a, b, bias, c, sizes, places, slope)


@pytest.mark.parametrize("units", [1, 16, 47, 96, 130, 196, 784, 5000])
def test_the_blocks_of_many_units_begin_at_a_cache_line(units: int) -> None:
    block = block_of(units)
    assert 1 <= block <= units
    assert block == units or block % 16 == 0
