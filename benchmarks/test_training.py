"""One training step of nb2's arms on each engine: `pytest --benchmark-only`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples, at_hand, load, prepare
from dlsys_bench.engines import create, unavailable
from dlsys_bench.engines.registry import BUILT_IN
from dlsys_bench.plan import Plan
from dlsys_bench.provenance import provenance
from dlsys_bench.spec.convention import follow
from dlsys_bench.studies import Case, find

BATCH, STEPS, ROUNDS = 128, 20, 5
ENGINES = [name for name in BUILT_IN if name != "keras-jax"]


@pytest.fixture(scope="module")
def images() -> Samples:
    data = prepare(load("mnist" if at_hand("mnist") else "digits"), scaling="unit")
    repeated = np.resize(np.arange(len(data.train.x)), BATCH * STEPS)
    return Samples(data.train.x[repeated], data.train.y[repeated])


@pytest.mark.parametrize("case", find("regularization/lenet5-tanh"), ids=lambda case: case.arm.name)
@pytest.mark.parametrize("name", ENGINES)
def test_training_step(benchmark: Any, name: str, case: Case, images: Samples) -> None:
    """Forward, loss, backward, update: 20 steps of 128 samples a round, each round going on with the same network."""
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    recipe = follow(engine.convention, replace(case.arm.recipe("full"), batch_size=BATCH, epochs=1))
    net = engine.build(follow(engine.convention, case.arm.model), seed=1)
    losses: list[float] = []

    def epoch() -> None:
        losses.append(engine.fit(net, images, recipe, Plan(len(losses)))[-1].running_loss)

    before = engine.weights(net)
    epoch()  # Compiles, allocates, warms up.
    benchmark.extra_info |= provenance() | {"engine": name, "arm": case.arm.name, "batch_size": BATCH, "steps": STEPS}
    benchmark.pedantic(epoch, rounds=ROUNDS)
    # A benchmark that does not train is worth nothing.
    assert losses[-1] < losses[0], f"the loss did not fall: {losses}"
    moved = [tensor for tensor, values in engine.weights(net).items() if np.abs(values - before[tensor]).max() > 0]
    assert len(moved) == len(before), f"these did not move: {sorted(set(before) - set(moved))}"
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info |= {"samples_per_second": BATCH * STEPS / seconds, "ms_per_step": 1e3 * seconds / STEPS,
                                 "loss_first": losses[0], "loss_last": losses[-1]}  # fmt: skip
