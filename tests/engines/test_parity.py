"""Engines step by step from one plan: same weights, same batches, same dropout, real images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.data import Samples, is_available, load, prepare
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.normalization import DropoutRule
from dlsys_bench.engines.numpy.optimizers import STEPPERS, AdamStepper
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import BatchNorm, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Case
from dlsys_bench.studies.registry import find

CASES = find("regularization")
STEPS, BATCH = 50, 32
WITHIN = {"numba": 1e-7, "torch": 1e-7, "jax": 1e-7, "keras": 1e-6}


@pytest.fixture(scope="module")
def images() -> Samples:
    """A few hundred real images: MNIST where it is at hand, digits where it is not."""
    data = prepare(
        load("mnist" if is_available("mnist") else "digits"), scaling="unit", dtype="float64"
    )
    return Samples(data.train.x[:400], data.train.y[:400])


@pytest.fixture(scope="module", params=["numba", "torch", "jax", "keras"])
def other(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param, dtype="float64")


def recipe_of(case: Case, convention: str) -> Recipe:
    return to_convention(convention, replace(case.arm.recipes["full"], batch_size=BATCH))


class SingleCorrection(AdamStepper):
    """Keras's Adam takes the rate and the powers of the bias correction from betas in single
    precision, and no more: the same here, to see that this explains the whole difference."""

    def start(self, parameters: Array) -> None:
        super().start(parameters)
        rounded = {
            name: float(np.float32(getattr(self.optimizer, name)))
            for name in ("beta_1", "beta_2", "learning_rate")
        }
        self.corrected = rounded["beta_1"], rounded["beta_2"]
        self.optimizer = replace(self.optimizer, learning_rate=rounded["learning_rate"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_numpy_trains_as_the_others_do(
    case: Case, other: Engine, images: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(case, other.convention)
    if other.name == "keras" and isinstance(recipe.optimizer, Adam):
        monkeypatch.setitem(STEPPERS, Adam, SingleCorrection)
    model = to_convention(other.convention, case.arm.model)
    found = first_divergence(
        NumpyEngine(dtype="float64"),
        other,
        model,
        recipe,
        images,
        Plan(7, steps=STEPS),
        WITHIN[other.name],
    )
    assert found is None, f"{case.name}, numpy against {other.name}: {found}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_softmax_sums_to_one_in_every_engine(case: Case, images: Samples) -> None:
    from dlsys_bench.spec.layers import Activation

    model = Model(
        "probabilities", case.arm.model.input_shape, (*case.arm.model.layers, Activation("softmax"))
    )
    for name in ("numpy", "numba", "torch", "jax", "keras"):
        if unavailable(name) is None:
            engine = create(name)
            net = engine.build(to_convention(engine.convention, model))
            np.testing.assert_allclose(
                engine.predict(net, images.x[:2]).sum(axis=1), 1.0, atol=1e-5, err_msg=name
            )
            counted = sum(tensor.size for tensor in engine.weights(net).values())
            assert counted == case.arm.model.counts.total, name


@settings(max_examples=25)
@given(
    model=strategies.models(
        outputs=3, most_layers=3, kinds=("dense", "activation", "flatten", "batch_norm")
    ),
    optimizer=strategies.optimizers(),
    seed=st.integers(0, 999),
)
def test_every_optimiser_steps_as_the_frameworks_do(
    other: Engine, model: Model, optimizer: Optimizer, seed: int
) -> None:
    if other.convention == "keras" and isinstance(optimizer, SGD):
        optimizer = replace(optimizer, dampening=0.0)
    recipe = Recipe(to_convention(other.convention, optimizer), batch_size=8, epochs=2)
    generator = np.random.default_rng(seed)
    samples = Samples(
        generator.standard_normal((19, *model.input_shape)), generator.integers(0, 3, 19)
    )
    found = first_divergence(
        NumpyEngine(dtype="float64"),
        other,
        to_convention(other.convention, model),
        recipe,
        samples,
        Plan(seed),
        1e-6 if other.name == "keras" else 1e-9,
    )
    assert found is None, str(found)


class HalfRate(NumpyEngine):
    """A broken twin: it steps half as far."""

    def fit(self, net, samples, recipe, plan):  # type: ignore[no-untyped-def]
        slower = replace(
            recipe,
            optimizer=replace(recipe.optimizer, learning_rate=recipe.optimizer.learning_rate / 2),
        )
        return super().fit(net, samples, slower if plan.steps and plan.steps > 5 else recipe, plan)


class Unscaled(NumpyEngine):
    """A broken twin: it drops without scaling what it keeps."""

    def build(self, model, weights=None, *, seed=0):  # type: ignore[no-untyped-def]
        net = super().build(model, weights, seed=seed)
        for place, rule in net.dropouts.items():
            net.rules[place] = net.dropouts[place] = _NoScale(
                rule.layer, rule.shape, rule.tensors, rule.gradients
            )
        return net


class _NoScale(DropoutRule):
    def forward(self, x: Array, training: bool) -> Array:
        y = super().forward(x, training)
        return y * (1 - self.layer.drop_rate) if self.kept is not None else y


def test_a_broken_dropout_is_named_by_step_and_layer(images: Samples) -> None:
    case = next(case for case in CASES if case.name == "regularization/lenet5-tanh/bn+dropout")
    found = first_divergence(
        NumpyEngine(dtype="float64"),
        Unscaled(dtype="float64"),
        case.arm.model,
        recipe_of(case, "keras"),
        images,
        Plan(1, steps=20),
        1e-9,
    )
    assert found is not None
    assert (found.step, found.what) == (1, "the output of dropout_1")


def test_a_broken_update_is_named_by_step_and_layer(images: Samples) -> None:
    case = next(case for case in CASES if case.name == "regularization/fashion/ffn")
    found = first_divergence(
        NumpyEngine(dtype="float64"),
        HalfRate(dtype="float64"),
        case.arm.model,
        recipe_of(case, "keras"),
        images,
        Plan(1, steps=20),
        1e-9,
    )
    assert found is not None
    assert found.step == 6
    assert "after the update" in found.what


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
def test_the_moving_variance_follows_the_named_convention(variance: str) -> None:
    model = Model("norm", (3,), (BatchNorm(moving_decay=0.5, moving_variance=variance), Dense(2)))
    x = np.random.default_rng(0).standard_normal((4, 3))
    engine = NumpyEngine(dtype="float64")
    net = engine.build(model)
    train(
        engine, net, Samples(x, np.zeros(4, int)), Recipe(SGD(0.0), batch_size=4, epochs=1), Plan(0)
    )
    moved = engine.weights(net)
    np.testing.assert_allclose(moved["batch_norm_1.moving_mean"], 0.5 * x.mean(0))
    np.testing.assert_allclose(
        moved["batch_norm_1.moving_variance"],
        0.5 + 0.5 * x.var(0, ddof=1 if variance == "unbiased" else 0),
    )


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "jax", "keras"])
def test_looking_moves_nothing(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name, dtype="float64")
    arm: Arm = find("regularization/lenet5-tanh/bn+dropout")[0].arm
    model = to_convention(engine.convention, arm.model)
    net = engine.build(model)
    before = engine.weights(net)
    generator = np.random.default_rng(0)
    batch = Batch(
        generator.random((4, 28, 28, 1)), generator.integers(0, 10, 4), Plan(0).masks(model, 0, 4)
    )
    loss = arm.recipes["full"].loss
    engine.gradients(net, batch, loss)
    engine.trace(net, batch)
    engine.predict(net, batch.x)
    for tensor, values in engine.weights(net).items():
        np.testing.assert_array_equal(values, before[tensor], err_msg=tensor)


@pytest.mark.parametrize("name", ["numpy", "numba", "torch", "jax", "keras"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not(
    name: str, images: Samples
) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    model = to_convention(
        engine.convention, find("regularization/fashion-mlp/dropout")[0].arm.model
    )
    recipe = to_convention(engine.convention, Recipe(SGD(0.1), batch_size=64, epochs=1))

    def trained(seed: int) -> Array:
        net = engine.build(model, seed=seed)
        train(engine, net, Samples(images.x.astype("float32"), images.y), recipe, Plan(seed))
        return engine.weights(net)["dense_1.kernel"]

    np.testing.assert_array_equal(trained(1), trained(1))
    assert np.abs(trained(1) - trained(2)).max() > 1e-3
