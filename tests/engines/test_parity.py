"""The arms of the regularisation study on real images: each engine step by step as numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.data import Samples, is_available, load, prepare
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.dropout import DropoutRule
from dlsys_bench.engines.numpy.optimizers import STEPPERS, AdamStepper
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Dropout
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find

CASES = find("regularization")
STEPS, BATCH = 50, 32
WITHIN = {"numba": 1e-7, "torch": 1e-7, "jax": 1e-7, "keras": 1e-6}


@pytest.fixture(scope="module")
def images() -> Samples:
    """Return 400 images of MNIST, or of digits where MNIST is not found."""
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
    """Round as Keras's Adam does, which keeps its learning rate and its betas in single precision.

    The bias correction uses the rounded betas; that this explains the whole difference is tested.
    """

    def start(self, parameters: Array) -> None:
        super().start(parameters)
        rounded = {
            name: float(np.float32(getattr(self.optimizer, name)))
            for name in ("beta_1", "beta_2", "learning_rate")
        }
        self.corrected = rounded["beta_1"], rounded["beta_2"]
        self.optimizer = replace(self.optimizer, learning_rate=rounded["learning_rate"])


@pytest.mark.rotates("arms step by step", 1)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_arm_is_trained_as_numpy_trains_it(
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


class HalfRate(NumpyEngine):
    """A broken engine: its learning rate is halved."""

    def fit(self, net, samples, recipe, plan):  # type: ignore[no-untyped-def]
        slower = replace(
            recipe,
            optimizer=replace(recipe.optimizer, learning_rate=recipe.optimizer.learning_rate / 2),
        )
        return super().fit(net, samples, slower if plan.steps and plan.steps > 5 else recipe, plan)


class Unscaled(NumpyEngine):
    """A broken engine: dropout does not scale the units that it keeps."""

    def build(self, model, weights=None, *, seed=0):  # type: ignore[no-untyped-def]
        net = super().build(model, weights, seed=seed)
        for place, rule in net.dropouts.items():
            net.rules[place] = net.dropouts[place] = _NoScale(
                rule.layer, rule.shapes, rule.tensors, rule.gradients
            )
        return net


class _NoScale(DropoutRule[Dropout]):
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
