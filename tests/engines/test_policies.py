"""One schedule and one policy of batch sizes, in every engine: the same rates, the same sizes, the
same weights."""

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
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate, LearningRateRamp, Schedule

MODEL = Model("small", (5,), (Dense(6), Activation("tanh"), Dense(3)))


@dataclass(frozen=True)
class Root(CyclicalLearningRate):
    """A scale of one's own."""

    kind: ClassVar[str] = "root_cyclical"

    def scaled(self, cycle: int, step: int) -> float:
        return float((1 + step) ** -0.5)


SCHEDULES: dict[str, Schedule | None] = {
    "triangular": CyclicalLearningRate(0.01, 0.3, 3),
    "triangular2": CyclicalLearningRate(0.01, 0.3, 3, "triangular2"),
    "exp_range, as published": CyclicalLearningRate(0.1, 1e-9, 4, "exp_range", 0.99994),
    "own": Root(0.01, 0.3, 3),
    "ramp": LearningRateRamp(1e-3, 0.5, 12),
    "none": None,
}


@pytest.fixture(scope="module", params=["numpy", "numba", "torch", "jax", "keras"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if reason := unavailable(request.param):
        pytest.skip(reason)
    return create(request.param, dtype="float64")


def samples(count: int = 30) -> Samples:
    generator = np.random.default_rng(0)
    return Samples(generator.standard_normal((count, 5)), generator.integers(0, 3, count))


@pytest.mark.parametrize(
    ("schedule", "sizes", "optimizer"),
    [
        *((name, None, SGD(0.1, momentum=0.9)) for name in SCHEDULES),
        ("triangular", None, RMSprop(0.01)),
        ("none", CyclicalBatchSize(2, 8), SGD(0.1)),
        ("none", CyclicalBatchSize(2, 8, ends="early"), SGD(0.1)),
        ("triangular", CyclicalBatchSize(2, 8), SGD(0.1)),
    ],
    ids=str,
)
def test_every_engine_follows(
    engine: Engine, schedule: str, sizes: CyclicalBatchSize | None, optimizer: SGD | RMSprop
) -> None:
    recipe = Recipe(
        optimizer, batch_size=8, epochs=2, schedule=SCHEDULES[schedule], batch_sizes=sizes
    )
    recipe = to_convention(engine.convention, recipe)
    seen = train(engine, engine.build(MODEL), samples(), recipe, Plan(3))
    if recipe.moves:
        steps = [by_step for epoch in seen if (by_step := epoch.by_step)]
        rates = [rate for by_step in steps for rate in by_step["learning_rate"]]
        exact = [recipe.rate(step) for step in range(len(rates))]
        np.testing.assert_allclose(rates, exact, rtol=1e-7 if engine.name == "keras" else 1e-12)
        expected = list(recipe.sizes(30))
        assert [[int(size) for size in by_step["batch_size"]] for by_step in steps] == expected
        for epoch, by_step, epoch_sizes in zip(seen, steps, expected, strict=True):
            assert np.average(by_step["loss"], weights=epoch_sizes) == pytest.approx(
                epoch.running_loss, rel=1e-5
            )
    else:
        assert all(epoch.by_step is None for epoch in seen)
    # That the rate was used and not only written down shows in the weights.
    if engine.name != "numpy":
        within = 1e-6 if engine.name == "keras" else 1e-9
        found = first_divergence(
            NumpyEngine(dtype="float64"),
            engine,
            to_convention(engine.convention, MODEL),
            recipe,
            samples(),
            Plan(3),
            within,
        )
        assert found is None, str(found)
