"""A training that checks compare with the oracle's, and its updates one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from dlsys_bench.conformance.guard import Guard
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import UpdateStep, train, training_epochs
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class TrainingCase(NamedTuple):
    """A training: the model with the weights it starts from, the samples, the recipe, the plan."""

    model: Model
    weights: Weights
    samples: Samples
    recipe: Recipe
    plan: Plan

    def run(self, engine: Engine | Guard, fits: int = 1) -> Weights:
        """Return the tensors after the training, or after several of them, on an engine."""
        network: Any = engine.build(self.model, self.weights)
        for _ in range(fits):
            train(engine, network, self.samples, self.recipe, self.plan)
        return engine.weights(network)

    def stopping_after(self, steps: int | None) -> TrainingCase:
        """Return the training with this limit on the steps, if it is lower."""
        return self._replace(plan=self.plan.stopping_after(steps))

    def updates(self) -> list[list[UpdateStep]]:
        """Return the updates of each epoch by the plan."""
        plan = replace(self.plan, parity=True)
        count = len(self.samples.x)
        epochs = training_epochs(self.model, count, self.recipe, plan)
        return [list(epoch.steps()) for epoch in epochs]
