"""Learning rates and batch sizes that move, and limits on the steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.step import compare
from dlsys_bench.conformance.checks.subjects import size
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import CyclicalLearningRate, LearningRateRamp

MOMENTUM = SGD(0.05, momentum=0.9)
"""With it the conventions part as soon as the rate moves."""

BASE = Recipe(MOMENTUM, batch_size=4, epochs=3, shuffle=False, loss=MeanSquaredError())
RECIPES = {
    "triangular": replace(BASE, schedule=CyclicalLearningRate(0.01, 0.2, 3)),
    "triangular2": replace(BASE, schedule=CyclicalLearningRate(0.01, 0.2, 2, "triangular2")),
    "exp_range": replace(BASE, schedule=CyclicalLearningRate(0.2, 0.01, 3, "exp_range", 0.9)),
    "ramp": replace(BASE, schedule=LearningRateRamp(1e-3, 0.2, 7)),
    "cyclical_batch_size": replace(BASE, batch_sizes=CyclicalBatchSize(1, 4)),
    "cyclical_batch_size-early": replace(
        BASE, batch_sizes=CyclicalBatchSize(1, 4, growing=False, ends="early")
    ),
    "adam": replace(BASE, optimizer=Adam(0.05), schedule=CyclicalLearningRate(0.01, 0.2, 3)),
    "rmsprop": replace(BASE, optimizer=RMSprop(0.05), schedule=CyclicalLearningRate(0.01, 0.2, 3)),
    "both": replace(
        BASE, schedule=LearningRateRamp(1e-3, 0.2, 9), batch_sizes=CyclicalBatchSize(1, 4)
    ),
    "steps": replace(BASE, steps=5),
    "steps-of-the-plan": BASE,
    "steps-fewer-by-the-plan": replace(BASE, steps=5),
    "steps-fewer-by-the-recipe": replace(BASE, steps=3),
}
STEPS = {"steps-of-the-plan": 5, "steps-fewer-by-the-plan": 4, "steps-fewer-by-the-recipe": 5}
"""The limit of the plan, where it has one."""
MODEL = Model("scheduled", (3,), (Dense(3), Activation("tanh"), Dense(2)))


@check("schedule", *RECIPES)
def schedule(trial: Trial, subject: str) -> None:
    """The weights after every step tell the rate of each; the history has to tell the same."""
    samples = Samples(
        trial.generator.standard_normal((11, 3)), trial.generator.standard_normal((11, 2))
    )
    plan = Plan(trial.seed, steps=STEPS.get(subject), parity=True)
    weights = strategies.nonzero_weights(MODEL, trial.seed)
    for convention in trial.engine.conventions:
        recipe = to_convention(convention, RECIPES[subject])
        truth = trial.oracle.build(MODEL, weights)
        right = train(trial.oracle, truth, samples, recipe, plan)
        compare(trial, MODEL, weights, samples, recipe, plan, right[-1].steps)
        found = train(trial.engine, trial.engine.build(MODEL, weights), samples, recipe, plan)
        counted = [epoch.steps for epoch in found]
        if counted != [epoch.steps for epoch in right]:
            raise broken(
                f"epochs end at the steps {counted}, where {[epoch.steps for epoch in right]} is right"
            )
        for mine, his in zip(found, right, strict=True):
            if his.by_step is None:
                continue
            for name, values in his.by_step.items():
                if mine.by_step is None or name not in mine.by_step:
                    raise broken(
                        f"epoch {mine.epoch} has no {name} by step in its history, though the recipe moves one"
                    )
                told = f"{name} by step in the history of epoch {mine.epoch}"
                close(
                    told,
                    np.array(mine.by_step[name]),
                    np.array(values),
                    max(1e-5, trial.tolerance) * max(values),
                )


@check("schedule", "second-fit")
def second(trial: Trial, subject: str) -> None:
    """A second training begins its schedule anew."""
    samples = Samples(
        trial.generator.standard_normal((11, 3)), trial.generator.standard_normal((11, 2))
    )
    recipe = to_convention(trial.engine.conventions[0], RECIPES["ramp"])
    weights = strategies.nonzero_weights(MODEL, trial.seed)
    net, truth = trial.engine.build(MODEL, weights), trial.oracle.build(MODEL, weights)
    for turn in ("first", "second"):
        train(trial.engine, net, samples, recipe, Plan(1, parity=True))
        train(trial.oracle, truth, samples, recipe, Plan(1, parity=True))
        for name, right in trial.oracle.weights(truth).items():
            allowed = 10 * trial.tolerance * size(right - weights[name])
            close(
                f"{name} after the {turn} fit",
                trial.engine.weights(net)[name],
                right,
                allowed,
                tensor=name,
            )
