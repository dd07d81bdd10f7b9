"""Runs that end early, with the weights of their best epoch."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Samples, Splits
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import SpecError
from dlsys_bench.runs.run import Resolved, train
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.stopping import EarlyStopping

MODEL = Model("m", (1,), (Dense(1, use_bias=False),))
PART = Samples(np.ones((4, 1)), np.zeros((4, 1)))


class Prescribed(NumpyEngine):
    """An engine whose only weight has the next of these values after each epoch, so that each loss
    is its square."""

    values: Sequence[float] = ()

    def fit(
        self, net: Any, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch, None, None]:
        for number, value in enumerate(self.values, start=1):
            net.tensors["dense_1.kernel"][...] = value
            yield Epoch(number, number, 0.0, 0.0)


def run(values: Sequence[float], **options: Any) -> tuple[float, list[int]]:
    """Return the weight after a run, and the numbers of the epochs in its history."""
    engine = Prescribed(dtype="float64")
    engine.values = values
    stopping = EarlyStopping(**options)
    recipe = Recipe(
        batch_size=4,
        epochs=len(values),
        loss=MeanSquaredError(),
        validation_split=0.5,
        stopping=stopping,
    )
    resolved: Any = Resolved(None, engine, None, "quick", MODEL, recipe)  # type: ignore[arg-type]
    net, history, error = train(resolved, Splits(PART, PART, PART), Plan(0))
    assert error is None
    return float(engine.weights(net)["dense_1.kernel"][0, 0]), [each.epoch for each in history]


def test_a_run_ends_when_patience_does_and_has_its_best_weights() -> None:
    assert run([3, 2, 1, 2, 2, 0], patience=2) == (1, [1, 2, 3])
    assert run([3, 2, 1, 2, 2, 0], patience=3) == (0, [1, 2, 3, 4, 5, 6])
    assert run([3, 2, 1, 2, 2, 0], patience=2, restore_best=False) == (2, [1, 2, 3, 4, 5])
    # Also where the recipe ends first, as in Keras.
    assert run([3, 1, 2], patience=5) == (1, [1, 2])


def test_a_smaller_improvement_than_the_least_is_none() -> None:
    assert run([2, 1.9, 1.8, 1], patience=2, min_delta=1.0) == (2, [1])
    assert run([2, 1.9, 1.7, 1], patience=2, min_delta=1.0) == (1, [1, 2, 3, 4])
    # An equal value is no improvement.
    assert run([2, 2, 2, 1], patience=2) == (2, [1])


def test_what_is_not_a_number_is_no_improvement() -> None:
    stopping = EarlyStopping()
    assert not stopping.improves(math.nan, None)
    assert not stopping.improves(math.nan, 1.0)
    assert stopping.improves(2.0, None)
    accuracy = EarlyStopping(metric="validation_accuracy")
    assert accuracy.improves(0.0, None)
    assert accuracy.improves(0.9, 0.8)
    assert not accuracy.improves(0.7, 0.8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "early_stopping monitors validation_loss, but validation_split is 0"),
        ({"validation_split": 0.1, "stopping": 5}, "stopping is 5; expected"),
        (
            {
                "validation_split": 0.1,
                "loss": MeanSquaredError(),
                "stopping": EarlyStopping(metric="validation_accuracy"),
            },
            "mean_squared_error has no accuracy",
        ),
    ],
)
def test_a_recipe_that_cannot_stop_early_raises(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Recipe.of(**({"stopping": EarlyStopping()} | options))
    assert message in str(error.value)
    assert str(error.value).startswith("recipe: ")
