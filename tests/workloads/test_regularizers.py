"""The study of regularisers: its training sets, its early stopping and its calibration error."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.runs.metrics import evaluate
from dlsys_bench.runs.run import resolve, run
from dlsys_bench.studies.base import ArmRun, Case
from dlsys_bench.workloads.generalization import (
    LOSS,
    expected_calibration_error,
    generalize,
    subset,
)
from dlsys_bench.workloads.studies import STUDIES

MLP = STUDIES["regularizers/mlp-600"]
LENET = STUDIES["regularizers/lenet5-600"]


def test_the_calibration_error_is_that_of_its_definition() -> None:
    draw = np.random.default_rng(0)
    logits, y = draw.normal(0, 2, (500, 4)), draw.integers(0, 4, 500)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = 0.0
    for low in np.arange(15) / 15:
        confidence = probabilities.max(axis=1)
        here = (confidence > low) & (confidence <= low + 1 / 15)
        if here.any():
            right = (probabilities.argmax(axis=1) == y)[here]
            expected += here.mean() * abs(right.mean() - confidence[here].mean())
    assert expected_calibration_error(logits, y) == pytest.approx(expected, abs=1e-12)
    sure = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    assert expected_calibration_error(sure, np.array([0, 1])) == 0.0
    assert expected_calibration_error(sure, np.array([1, 0])) == 1.0


def test_a_seed_draws_one_training_set_for_all_arms() -> None:
    data = load("digits")
    first, again, other = (subset(data, 100, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.x_train, again.x_train)
    assert not np.array_equal(first.x_train, other.x_train)
    assert len(np.unique(first.x_train.reshape(100, -1), axis=0)) == 100
    assert first.x_test is data.x_test


class Scripted(NumpyEngine):
    """An engine whose training sets the weights of each epoch."""

    direction: Any

    def fit(self, net: Any, *args: Any) -> Generator[Epoch]:
        for number, scale in enumerate((2.0, 0.1, 1.0, 0.5, 0.2, 0.05), start=1):
            net.parameters[...] = scale * self.direction
            yield Epoch(number, number, 0.0, 0.0, 0.0)


def test_early_stopping_returns_to_the_best_weights() -> None:
    arm = replace(MLP.arm("early-stopping"), options={"samples": 300, "patience": 2})
    engine, data = Scripted(), load("digits")
    resolved = resolve(Case(MLP, arm), engine, data, "quick")
    trained = engine.build(resolved.model, seed=0)
    engine.direction = trained.parameters.copy()
    figures = generalize(ArmRun(arm, engine, data, "quick", 3, resolved.model, resolved.recipe))
    part = resolved.prepare(3).test
    # The outputs of an untrained network are the better, the smaller they are.
    trained.parameters[...] = 0.1 * engine.direction
    expected = evaluate(engine.predict(trained, part.x), part, LOSS)
    assert figures["epochs"] == 4
    assert figures["test_loss"] == pytest.approx(expected.loss)


@pytest.mark.parametrize(
    ("study", "arm"),
    [(MLP, "none"), (MLP, "early-stopping")]
    + [
        pytest.param(study, arm.name, marks=pytest.mark.slow)
        for study in (MLP, LENET)
        for arm in study.arms
    ],
)
def test_an_arm_trains_and_states_every_figure(study: Any, arm: str) -> None:
    case = Case(study, study.arm(arm))
    found = run(case, NumpyEngine(), load("digits"), seed=50_000)
    figures = found.figures
    assert 0.5 < figures["test_accuracy"] <= 1.0
    assert figures["gap"] == figures["train_accuracy"] - figures["test_accuracy"]
    assert 0.0 < figures["calibration_error"] < 1.0
    assert set(figures) >= {"test_loss", "train_loss", "epochs", "train_seconds"}


def test_every_regulariser_changes_the_training() -> None:
    for study in STUDIES.values():
        if study.group == "regularizers":
            assert len({arm.protocol("full") for arm in study.arms}) == len(study.arms)


def test_a_pair_has_both_regularisers() -> None:
    arm, alone = MLP.arm("dropout-0.25+shift-1"), MLP.arm("dropout-0.25")
    assert arm.model.layers == alone.model.layers
    assert arm.recipe("full") == MLP.arm("shift-1").recipe("full")
    smooth = MLP.arm("dropout-0.25+label-smoothing").recipe("full")
    assert smooth == MLP.arm("label-smoothing").recipe("full")
