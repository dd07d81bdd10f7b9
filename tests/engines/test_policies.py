"""A schedule that a user defines trains alike in every engine.

The conformance checks of the rung `schedule` cover the schedules of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate

MODEL = Model("small", (5,), (Dense(6), Activation("tanh"), Dense(3)))


@dataclass(frozen=True)
class Root(CyclicalLearningRate):
    """A user's schedule, whose amplitude falls with the root of the step."""

    kind: ClassVar[str] = "root_cyclical"

    def scaled(self, cycle: int, step: int) -> float:
        return float((1 + step) ** -0.5)


@pytest.fixture(scope="module", params=["numpy", "numba", "torch", "jax", "keras"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param, dtype="float64")


def samples(count: int = 30) -> Samples:
    generator = np.random.default_rng(0)
    return Samples(generator.standard_normal((count, 5)), generator.integers(0, 3, count))


def test_every_engine_follows_a_users_schedule(engine: Engine) -> None:
    recipe = Recipe(SGD(0.1, momentum=0.9), batch_size=8, epochs=2, schedule=Root(0.01, 0.3, 3))
    recipe = to_convention(engine.convention, recipe)
    history = train(engine, engine.build(MODEL), samples(), recipe, Plan(3))
    by_step = [epoch.by_step or {} for epoch in history]
    rates = [rate for figures in by_step for rate in figures["learning_rate"]]
    # Keras keeps the learning rate in single precision.
    tolerance = 1e-7 if engine.name == "keras" else 1e-12
    np.testing.assert_allclose(rates, [recipe.rate(step) for step in range(8)], rtol=tolerance)
    sizes = list(recipe.sizes(30))
    assert [figures["batch_size"] for figures in by_step] == sizes
    for epoch, figures, weights in zip(history, by_step, sizes, strict=True):
        mean = np.average(figures["loss"], weights=weights)
        assert mean == pytest.approx(epoch.running_loss, rel=1e-5)


def test_every_engine_trains_at_the_rates_of_a_users_schedule(engine: Engine) -> None:
    recipe = Recipe(SGD(0.1, momentum=0.9), batch_size=8, epochs=2, schedule=Root(0.01, 0.3, 3))
    found = first_divergence(
        NumpyEngine(dtype="float64"),
        engine,
        to_convention(engine.convention, MODEL),
        to_convention(engine.convention, recipe),
        samples(),
        Plan(3),
        1e-6 if engine.name == "keras" else 1e-9,
    )
    assert found is None, str(found)
