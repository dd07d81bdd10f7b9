"""Studies of thousands of networks: trained together, and one after another."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples, load, prepare
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.runs.run import run
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find

ROUNDS = 5
SAMPLE = 3


def networks(case: Case, count: int) -> Case:
    """The case with a number of networks per run."""
    return case._replace(arm=replace(case.arm, networks={"full": count}))


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_thousand_networks_of_ten_layers(benchmark: Any, name: str) -> None:
    """The protocol of nb2 with 2 epochs, which takes 951 seconds there. The collapsed fraction of
    each round is checked."""
    if reason := unavailable(name):
        pytest.skip(reason)
    case, engine, data = networks(find("dying-relu/relu")[0], 1000), create(name), load("absolute")
    result = benchmark.pedantic(
        run, (case, engine, data), {"tier": "full", "seed": 50_000}, rounds=ROUNDS
    )
    assert 0.93 < result.figures["collapse_fraction"] < 0.99
    assert result.figures["train_loss"] < 7 / 3
    benchmark.extra_info |= {
        "networks": 1000,
        "microseconds a network": 1e3 * benchmark.stats.stats.median,
    }


def test_batched_against_keras_one_by_one(benchmark: Any) -> None:
    """Each round trains a few networks in Keras one by one, then a thousand in numpy together."""
    if reason := unavailable("keras"):
        pytest.skip(reason)
    case, data = find("dying-relu/relu")[0], load("absolute")
    numpy_engine, keras = create("numpy"), create("keras")
    model = to_convention("keras", case.arm.model)
    recipe = to_convention("keras", case.arm.recipe("full"))
    part = prepare(data, scaling="raw").train
    many = networks(case, 1000)
    ratios, keras_seconds, numpy_seconds = [], [], []

    def one_by_one(seeds: range) -> None:
        for seed in seeds:
            train(keras, keras.build(model, seed=seed), Samples(part.x, part.y), recipe, Plan(seed))

    one_by_one(range(1))  # The first call also starts TensorFlow.

    def both() -> None:
        started = time.perf_counter()
        one_by_one(range(SAMPLE))
        between = time.perf_counter()
        run(many, numpy_engine, data, tier="full", seed=50_000)
        keras_seconds.append((between - started) / SAMPLE)
        numpy_seconds.append((time.perf_counter() - between) / 1000)
        ratios.append(keras_seconds[-1] / numpy_seconds[-1])

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    low, middle, high = np.quantile(ratios[1:], [0.0, 0.5, 1.0])
    benchmark.extra_info |= {
        "keras, seconds a network": float(np.median(keras_seconds[1:])),
        "numpy, seconds a network": float(np.median(numpy_seconds[1:])),
        "ratio": f"{middle:.0f} [{low:.0f}, {high:.0f}]",
    }


@pytest.mark.parametrize("protocol", ["nb4", "sound"])
def test_ten_thousand_perceptrons_by_both_losses(benchmark: Any, protocol: str) -> None:
    """The loop of nb4 takes 50 epochs of the perceptron criterion and 200 of hinge loss; the engine
    takes 200 of each."""
    cases = [find(f"perceptron/{protocol}/{loss}")[0] for loss in ("perceptron", "hinge")]
    engine, data = create("numpy"), load("half-plane")

    def both() -> list[float]:
        results = [run(case, engine, data, tier="full", seed=50_000) for case in cases]
        return [result.figures["test_accuracy"] for result in results]

    perceptron, hinge = benchmark.pedantic(both, rounds=ROUNDS)
    assert 0.94 < hinge < perceptron < 0.98


def test_a_born_dead_diagram(benchmark: Any) -> None:
    """200 cells of depth and width, 1,000 networks each, without training."""
    (case,) = find("dying-relu-phase-diagram/born/relu, he_uniform")
    engine, data = create("numpy"), load("absolute")
    result = benchmark.pedantic(
        run, (case, engine, data), {"tier": "full", "seed": 50_000}, rounds=3
    )
    assert 0.2 < result.figures["dead_fraction"] < 0.4
