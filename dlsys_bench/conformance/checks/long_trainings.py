"""Trainings of more updates than a counter of few bits can number."""

from __future__ import annotations

from dataclasses import replace

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.networks import optimizer_with_state, smooth
from dlsys_bench.conformance.checks.support import example_loss, supported, trainable
from dlsys_bench.conformance.checks.training import compare_updates, plans, regression, start
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

UPDATES = 2400
"""More than a byte can hold, and than bfloat16 and float16 can count, in which 256 + 1 is 256 and
2048 + 1 is 2048; and enough beyond for a difference that single precision shows."""


@check("schedule", "many-updates", requires=["layer:dense"], dtype="")
def many_updates(trial: Trial) -> None:
    """More than two thousand updates with a schedule and a moving average, by the engine's
    optimiser that keeps the most state, with a plan and natively.

    Why: A counter of updates, as the one in the bias correction of Adam, may stop or start anew.
    Broken by: An engine that counts updates in bfloat16 or float16, which cannot count beyond 256
    and 2,048, or that has a table of the first 500 learning rates.
    Fix: Count updates in an integer of at least 32 bits.
    """
    optimizer = smooth(optimizer_with_state(trial))
    if isinstance(optimizer, Adam):
        # The corrections by a smaller beta would end long before the training does.
        optimizer = replace(optimizer, beta_2=0.999)
    recipe = Recipe(
        optimizer,
        batch_size=1,
        epochs=UPDATES // 4,
        shuffle=False,
        loss=example_loss(trial),
        schedule=LearningRateRamp(0.001, 0.02, UPDATES),
        average=WeightAverage(0.9),
    )
    recipe = supported(trial, recipe)
    model = trainable(trial, Model("line", (2,), (Dense(2),)))
    samples = regression(trial, 4, inputs=2)
    own = plans(trial)
    training = TrainingCase(model, start(trial, model), samples, recipe, own[0])
    compare_updates(trial, training, UPDATES, plans=own)
