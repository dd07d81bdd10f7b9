"""Dying ReLU: the counts of both rules, the bounds at birth against drawn networks, and networks
that diverge."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.data import Samples, load
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.engines.replicas import in_blocks
from dlsys_bench.notebooks.studies.dying_relu import FLAT, count
from dlsys_bench.notebooks.studies.phase_diagram import (
    STARTS,
    LayerSizes,
    asymmetric,
    born,
    born_dead_bounds,
)
from dlsys_bench.notebooks.zoo import narrow
from dlsys_bench.runs.run import run
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import MOST_NETWORKS, Case
from dlsys_bench.studies.registry import find


def small(name: str, networks: int = 40) -> Case:
    (case,) = find(name)
    return case._replace(arm=replace(case.arm, networks={"quick": networks, "full": networks}))


def test_collapse_is_counted_by_either_rule() -> None:
    constant, moving = np.zeros((1, 200, 1)), np.linspace(0, 1, 200).reshape(1, 200, 1)
    barely = np.zeros((1, 200, 1))
    barely[0, :100] = 2 * np.sqrt(FLAT) * 0.999
    late = np.zeros((1, 200, 1))
    late[0, 150:] = 1.0
    flat, identical = count(np.concatenate([constant, moving, barely, late, barely * 1.01]))
    assert flat.tolist() == [True, False, True, False, False]
    # nb4 compares a hundred predictions.
    assert identical.tolist() == [True, False, True, True, True]


def test_networks_trained_together_count_as_those_trained_alone() -> None:
    case, engine, dataset = (
        small("dying-relu/relu", 12),
        create("numpy", dtype="float64"),
        load("absolute"),
    )
    figures = run(case, engine, dataset, seed=5).figures
    data = dataset.redraw(5)  # type: ignore[misc]
    outputs = []
    for number in range(12):
        net = engine.build(case.arm.model, seed=5 * MOST_NETWORKS + number)
        train(
            engine,
            net,
            Samples(data.x_train, data.y_train),
            case.arm.recipe("quick"),
            Plan(5 * MOST_NETWORKS + number),
        )
        outputs.append(engine.predict(net, data.x_test))
    flat, identical = count(np.stack(outputs))
    assert (figures["flat"], figures["identical"]) == (flat.sum(), identical.sum())
    assert figures["collapsed"] == figures["flat"]
    assert figures["networks"] == 12


def test_networks_that_diverge_are_counted_separately() -> None:
    case = small("dying-relu/relu", 30)
    wild = Recipe(
        SGD(0.5), batch_size=64, epochs=2, loss=case.arm.recipe("quick").loss, scaling="raw"
    )
    model = narrow("leaky_relu", depth=3, width=20)
    case = case._replace(arm=replace(case.arm, model=model, recipes={"quick": wild}))
    figures = run(case, create("numpy"), load("absolute"), seed=0).figures
    assert 0 < figures["failed"] < 30
    assert figures["networks"] == 30 - figures["failed"]
    assert len(figures["failures"]) == min(figures["failed"], 20)
    assert all(
        re.match(r"network \d+: the loss became (inf|nan) in epoch", line)
        for line in figures["failures"]
    )
    assert figures["collapsed"] <= figures["networks"]
    wilder = replace(case.arm, recipes={"quick": replace(wild, optimizer=SGD(50.0))})
    diverged = run(case._replace(arm=wilder), create("numpy"), load("absolute"), seed=0)
    assert (diverged.status, diverged.figures, diverged.metric("collapse_fraction")) == (
        "diverged",
        {},
        None,
    )
    assert "in epoch 1, batch" in (diverged.reason or "")


@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
def test_engines_agree_on_the_fraction(name: str) -> None:
    """Compare with the 0.969 of ten thousand networks in numpy, with a false-alarm rate of 1e-6."""
    if reason := unavailable(name):
        pytest.skip(reason)
    figures = run(small("dying-relu/relu", 200), create(name), load("absolute"), seed=2).figures
    assert stats.binomtest(figures["collapsed"], 200, 0.969).pvalue > 1e-6


@pytest.mark.parametrize("start", ["glorot_uniform", "he_uniform"])
@pytest.mark.parametrize(
    ("depth", "width"),
    [(1, 1), (2, 1), (5, 1), (3, 2), (10, 2), (10, 3), (20, 4), (15, 6), (4, 10)],
)
def test_the_fraction_born_dead_is_between_the_bounds(start: str, depth: int, width: int) -> None:
    found = born(STARTS[start], 0.0, depth, width, 4000, 11).dead
    low, high = born_dead_bounds(depth, width)
    for bound, side in ((low, "greater"), (high, "less")):
        wrong = "less" if side == "greater" else "greater"
        assert stats.binomtest(found, 4000, bound, alternative=wrong).pvalue > 1e-5, (
            found / 4000,
            low,
            high,
        )


def test_the_bounds_are_equal_where_the_theory_is_exact() -> None:
    for depth in range(1, 8):
        low, high = born_dead_bounds(depth, 1)
        assert low == high == pytest.approx(1 - 0.5 ** (depth - 1))
    assert born_dead_bounds(1, 5) == (0.0, 0.0)
    # Two layers of two units: after the first, both rays live with probability 1/2, at right
    # angles, and a single one with 1/2.
    assert born_dead_bounds(2, 2)[0] == pytest.approx(0.5 * 0.25 + 0.5 * 0.25**2)
    for depth, width in ((5, 3), (20, 10)):
        low, high = born_dead_bounds(depth, width)
        assert 0 < low < high < 1


def test_a_leaky_network_is_never_born_dead_but_may_be_flat() -> None:
    found = born(STARTS["he_uniform"], 0.01, 10, 2, 500, 0)
    assert found.dead == 0
    assert found.flat > 300


def test_two_points_determine_a_network_without_biases() -> None:
    """Predictions computed from one point on either side are those of a forward pass."""
    engine = create("numpy", dtype="float64")
    x = np.random.default_rng(0).uniform(-2.6, 2.6, (50, 1))
    for seed in range(20):
        net = engine.build(narrow("relu", 3, 3), seed=seed)
        ends = engine.predict(net, np.array([[-1.0], [1.0]]))[:, 0]
        rays = np.where(x[:, 0] > 0, ends[1], ends[0]) * np.abs(x[:, 0])
        np.testing.assert_allclose(engine.predict(net, x)[:, 0], rays, rtol=1e-12, atol=1e-15)


def test_the_asymmetric_initialization_has_one_beta_variate_per_unit() -> None:
    kernel, bias = asymmetric(np.random.default_rng(1), LayerSizes(4000, 3, 2))
    assert bias is not None
    assert kernel.shape == (4000, 3, 2)
    assert bias.shape == (4000, 1, 2)
    # One of the four entries of a unit has the mean 2/3 of Beta(2, 1), the others 0: 1/6 overall.
    everything = np.concatenate([kernel, bias], axis=1)
    assert everything.mean() == pytest.approx(1 / 6, abs=0.01)
    variance = (3 * 0.6007**2 / 3 + 0.5) / 4 - (1 / 6) ** 2
    assert everything.var() == pytest.approx(variance, rel=0.03)


def test_blocks_cover_all_networks_in_order() -> None:
    engine, model, recipe = create("numpy"), narrow("relu"), Recipe(batch_size=64)
    for workers in (1, 2, 3):
        parts = in_blocks(engine, model, recipe, 1000, list, workers)
        assert [number for part in parts for number in part] == list(range(1000))
        assert len(parts) >= workers
    assert in_blocks(engine, model, recipe, 0, list) == []
