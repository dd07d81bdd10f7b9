"""Training steps of nb2's arms on each engine: `pytest --benchmark-only`."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples, at_hand, load, prepare
from dlsys_bench.engines import Engine, create, unavailable
from dlsys_bench.engines.registry import BUILT_IN
from dlsys_bench.plan import Plan
from dlsys_bench.provenance import provenance
from dlsys_bench.result import Epoch
from dlsys_bench.spec.convention import follow
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import Case, find

BATCH, STEPS, ROUNDS = 128, 20, 5
ENGINES = [name for name in BUILT_IN if name != "keras-jax"]


@pytest.fixture(scope="module")
def images() -> Samples:
    data = prepare(load("mnist" if at_hand("mnist") else "digits"), scaling="unit")
    repeated = np.resize(np.arange(len(data.train.x)), BATCH * STEPS)
    return Samples(data.train.x[repeated], data.train.y[repeated])


class Paced:
    """One `fit`, an epoch a call: the engine's own loop, held at the end of each epoch until the next is asked for.

    A `fit` for each round would time what an engine does once (compiling) instead of what it does at every step.
    """

    def __init__(self, engine: Engine, net: Any, samples: Samples, recipe: Recipe) -> None:
        self.go, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.losses: list[float] = []
        self.error: BaseException | None = None
        self.over = False

        def hold(epoch: Epoch) -> None:
            self.losses.append(epoch.running_loss)
            self.done.release()
            self.go.acquire()
            if self.over:
                raise StopIteration

        def train() -> None:
            self.go.acquire()
            try:
                engine.fit(net, samples, recipe, Plan(1), hold)
            except BaseException as error:
                self.error = error
                self.done.release()

        self.thread = threading.Thread(target=train, daemon=True)
        self.thread.start()

    def __call__(self) -> None:
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        self.over = True
        self.go.release()
        self.thread.join(timeout=60)


@pytest.mark.parametrize("case", find("regularization/lenet5-tanh"), ids=lambda case: case.arm.name)
@pytest.mark.parametrize("name", ENGINES)
def test_training_steps(benchmark: Any, name: str, case: Case, images: Samples) -> None:
    """Forward, loss, backward, update: 20 steps of 128 samples a round, after one round to compile and warm up."""
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    recipe = follow(engine.convention, replace(case.arm.recipe("full"), batch_size=BATCH, epochs=10 * ROUNDS))
    net = engine.build(follow(engine.convention, case.arm.model), seed=1)
    before = engine.weights(net)
    epoch = Paced(engine, net, images, recipe)
    benchmark.extra_info |= provenance() | {"engine": name, "arm": case.arm.name, "batch_size": BATCH, "steps": STEPS}
    benchmark.pedantic(epoch, rounds=ROUNDS, warmup_rounds=1)
    epoch.stop()
    # A benchmark that does not train is worth nothing.
    if len(epoch.losses) > 1:
        assert epoch.losses[-1] < epoch.losses[0], f"the loss did not fall: {epoch.losses}"
    moved = [tensor for tensor, values in engine.weights(net).items() if np.abs(values - before[tensor]).max() > 0]
    assert len(moved) == len(before), f"these did not move: {sorted(set(before) - set(moved))}"
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info |= {"samples_per_second": BATCH * STEPS / seconds, "ms_per_step": 1e3 * seconds / STEPS,
                                 "loss_first": epoch.losses[0], "loss_last": epoch.losses[-1]}  # fmt: skip
