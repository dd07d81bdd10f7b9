"""Delayed generalisation: the steps at which a training fits its data, and at which it generalises.

Power et al. 2022, arXiv:2201.02177.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Plan
from dlsys_bench.runs.metrics import evaluate
from dlsys_bench.runs.preparation import prepare_for
from dlsys_bench.studies.base import ArmRun

LEVEL = 0.99
"""The accuracy from which a network counts as fitted, or as generalising."""

EVALUATIONS = 50
"""The evaluations of a training, at equal distances."""


class CurvePoint(NamedTuple):
    """The accuracies after some steps, and the test loss."""

    step: int
    train_accuracy: float
    test_accuracy: float
    test_loss: float


def train_and_watch(run: ArmRun) -> Mapping[str, Any]:
    """Train one network and return its last figures, and the steps at which it reached LEVEL.

    `fitted_at` and `generalized_at` are None if the accuracy on the training or on the test set
    never reached it. `curve` has a CurvePoint for each evaluation.
    """
    data = prepare_for(run.recipe, run.dataset, run.engine.dtype, run.seed)
    net = run.engine.build(run.model, seed=run.seed)
    every = max(1, (run.recipe.steps or 1) // EVALUATIONS)
    curve: list[CurvePoint] = []

    def look(step: int) -> None:
        train, test = (
            evaluate(run.engine.predict(net, part.x), part, run.recipe.loss)
            for part in (data.train, data.test)
        )
        curve.append(CurvePoint(step, train.accuracy or 0.0, test.accuracy or 0.0, test.loss))

    with closing(run.engine.fit(net, data.train, run.recipe, Plan(run.seed))) as epochs:
        for epoch in epochs:
            if epoch.steps // every > (curve[-1].step // every if curve else 0):
                look(epoch.steps)
    if not curve or curve[-1].step < epoch.steps:
        look(epoch.steps)
    last = curve[-1]
    return {
        **last._asdict(),
        "fitted_at": next((each.step for each in curve if each.train_accuracy >= LEVEL), None),
        "generalized_at": next((each.step for each in curve if each.test_accuracy >= LEVEL), None),
        "curve": [list(each) for each in curve],
    }
