"""The perceptron study: draws trained together equal those trained one by one, by every rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError
from dlsys_bench.notebooks.datasets import half_plane, half_planes
from dlsys_bench.notebooks.studies.perceptron import PUSHES, accuracy, online
from dlsys_bench.runs.run import run
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find


def one(rule: str, w: Array, x: Array, y: Array, rate: float, epochs: int) -> Array:
    """The loop of a notebook for one draw, one sample at a time."""
    w = w.copy()
    for _ in range(epochs):
        for point, sign in zip(x, y, strict=True):
            score = float(w @ point)
            if rule == "nb2/perceptron":
                w += rate * (sign - np.sign(score)) * point
            elif rule == "nb2/hinge":
                if np.sign(score) != sign:
                    w += rate * (sign - np.sign(score)) * point
                elif max(0.0, 1.0 - np.sign(score)) > 0.0:
                    w += rate * sign * point
            elif sign * score <= (0.0 if rule == "nb4/perceptron" else 1.0):
                w += rate * sign * point
    return w


@pytest.mark.parametrize("rule", PUSHES)
@pytest.mark.parametrize("zero", [True, False])
def test_draws_trained_together_equal_those_trained_alone(rule: str, zero: bool) -> None:
    generator = np.random.default_rng(4)
    x, y = half_planes(generator, 30, 20)
    start = np.zeros((30, 2)) if zero else generator.uniform(-1, 1, (30, 2))
    together = online(start, x, y, PUSHES[rule], 0.1, 12)
    for draw in range(30):
        np.testing.assert_allclose(
            together[draw], one(rule, start[draw], x[draw], y[draw], 0.1, 12), rtol=1e-9
        )


def test_only_the_hinge_of_nb2_updates_on_a_correct_negative_sample() -> None:
    score, sign = np.array([-0.5, 0.5, -0.5, 0.5]), np.array([-1.0, 1.0, 1.0, -1.0])
    assert PUSHES["nb2/perceptron"](score, sign).tolist() == [0, 0, 2, -2]
    assert PUSHES["nb2/hinge"](score, sign).tolist() == [-1, 0, 2, -2]
    assert PUSHES["nb4/perceptron"](score, sign).tolist() == [0, 0, 1, -1]
    assert PUSHES["nb4/hinge"](score, sign).tolist() == [-1, 1, 1, -1]


def test_accuracy_is_the_fraction_of_correct_signs() -> None:
    assert accuracy(
        np.array([[1.0, -1, 2, 3], [-1, -1, -1, -1]]), np.array([[1, 1, 1, -1], [-1] * 4])
    ).tolist() == [
        0.5,
        1,
    ]


@pytest.mark.parametrize("name", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_sound_arms_run_on_any_engine_and_agree(name: str) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    # The means of ten thousand draws; five standard errors of a thousand are allowed.
    for loss, expected in (("perceptron", 0.9663), ("hinge", 0.9580)):
        found = run(sound(loss, draws=1000), engine, load("half-plane"), seed=3).figures
        assert found["draws"] == sum(found["counts"]) == 1000
        error = found["deviation"] / 1000**0.5
        assert found["test_accuracy"] == pytest.approx(expected, abs=5 * error), loss


def sound(loss: str, draws: int, **changes: Any) -> Case:
    """The sound arm of a loss with a number of draws, and changes to its recipe."""
    (case,) = find(f"perceptron/sound/{loss}")
    recipe = replace(case.arm.recipe("quick"), **changes)
    arm = replace(case.arm, networks={"quick": draws}, recipes={"quick": recipe})
    return case._replace(arm=arm)


@pytest.mark.parametrize("loss", ["perceptron", "hinge"])
def test_engines_agree_after_a_few_epochs(loss: str) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    case, data = sound(loss, draws=1000, epochs=5), load("half-plane")
    numpy, torch = (run(case, create(name), data, seed=3).figures for name in ("numpy", "torch"))
    # Both have the same points but different initial weights.
    error = (2 / 1000) ** 0.5 * numpy["deviation"]
    assert torch["test_accuracy"] == pytest.approx(numpy["test_accuracy"], abs=5 * error)


def test_a_published_protocol_runs_only_in_numpy() -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    with pytest.raises(EngineError, match="the loop of a notebook, written in numpy: engine"):
        run(find("perceptron/nb2/hinge")[0], create("torch"), load("half-plane"), seed=3)


def test_the_points_follow_the_notebooks() -> None:
    data = half_plane(5)
    assert data.x_train.shape == (20, 2)
    assert data.x_test.shape == (1000, 2)
    np.testing.assert_array_equal(data.y_train == 1, data.x_train[:, 0] > data.x_train[:, 1])
    assert 0.4 < data.y_test.mean() < 0.6
    assert (data.redraw(6).x_train != data.x_train).all()  # type: ignore[misc]
    np.testing.assert_array_equal(data.redraw(5).x_train, data.x_train)  # type: ignore[misc]
