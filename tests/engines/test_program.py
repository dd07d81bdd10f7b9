"""Compiled programs of the numba engine train as numpy does, whatever the number of threads."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.clipping import ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout, Flatten, Layer
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

from dlsys_bench.engines.numba.program import program
from dlsys_bench.engines.numba.program.tables import block_of, missing_layer, missing_option

RELU, LEAKY = Activation("relu"), Activation("leaky_relu", negative_slope=0.25)
WIDE = Model(
    "wide",
    (4, 5, 10),
    (Flatten(), Dense(100), RELU, Dropout(0.3), BatchNorm(0.1), Dense(150), LEAKY, Dense(3)),
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


hidden = st.one_of(
    st.builds(Dense, st.sampled_from([1, 3, 16, 70]), st.booleans()),
    st.sampled_from([RELU, LEAKY, Activation("linear"), BatchNorm(0.1), BatchNorm(0.1, 0.5)]),
    st.sampled_from([Dropout(0.5), Dropout(0.0), Dropout(0.9), Flatten()]),
)


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
    assert missing_layer(model) is None
    assert missing_option(recipe) is None
    samples, plan = samples_of(model, loss, 2 * batch), Plan(3, parity=True)
    weights, figures = trained("numba", model, recipe, samples, plan)
    expected, expected_figures = trained("numpy", model, recipe, samples, plan)
    for name, values in expected.items():
        np.testing.assert_allclose(weights[name], values, rtol=1e-6, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(
        np.array(figures, float), np.array(expected_figures, float), rtol=1e-7
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("samples", [8, 50])
def test_the_bits_do_not_depend_on_the_threads(
    dtype: str, samples: int, monkeypatch: pytest.MonkeyPatch, programs: list[Any]
) -> None:
    data = samples_of(WIDE, CategoricalCrossEntropy(), 3 * samples + 3)
    recipe = Recipe(Adam(0.01), batch_size=samples, epochs=2)
    found = []
    for threads in ("1", "2", "3", "8"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(trained("numba", WIDE, recipe, data, Plan(5), dtype))
    assert len(programs) == 4
    for weights, figures in found[1:]:
        assert figures == found[0][1]
        for name, values in weights.items():
            np.testing.assert_array_equal(values, found[0][0][name], err_msg=name)


def test_the_masks_are_those_of_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a plan, a training by the rules drops out the same units."""
    data = samples_of(WIDE, CategoricalCrossEntropy(), 40)
    recipe = Recipe(SGD(0.05), batch_size=9, epochs=2)
    weights, _ = trained("numba", WIDE, recipe, data, Plan(5))
    monkeypatch.setattr(program, "missing_layer", lambda model: "dense_1")
    expected, _ = trained("numba", WIDE, recipe, data, Plan(5))
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
        thread.join(timeout=60)
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
        ((Dense(4), Activation("tanh"), Dense(2)), "activation_1"),
        ((Dense(4), Activation("softmax"), Dense(2)), "activation_1"),
        ((Dense(4), RELU, Dense(2), RELU), "activation_2"),
    ],
)
def test_a_layer_without_a_compiled_form_is_named(
    layers: tuple[Layer, ...], missing: str, programs: list[Any]
) -> None:
    model = Model("mixed", (3,), layers)
    assert missing_layer(model) == missing
    loss = CategoricalCrossEntropy()
    trained("numba", model, Recipe(epochs=1, batch_size=4), samples_of(model, loss, 8), Plan(1))
    assert programs == []


def test_an_option_without_a_compiled_form_is_named() -> None:
    assert missing_option(Recipe()) is None
    assert missing_option(Recipe(loss=Hinge())) == "loss"
    assert missing_option(Recipe(loss=CategoricalCrossEntropy(label_smoothing=0.1))) == "loss"
    assert missing_option(Recipe(SGD(decay=WeightDecay(0.1)))) == "decay"
    assert missing_option(Recipe(clip=ClipValue(1.0))) == "clip"


@pytest.mark.parametrize("units", [1, 16, 47, 96, 130, 196, 784, 5000])
def test_the_blocks_of_many_units_begin_at_a_cache_line(units: int) -> None:
    block = block_of(units)
    assert 1 <= block <= units
    assert block == units or block % 16 == 0
