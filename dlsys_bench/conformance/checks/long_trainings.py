"""Trainings of many epochs, and of more updates than a counter of few bits can number."""

from __future__ import annotations

from dataclasses import replace

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.fitting import conventions_of
from dlsys_bench.conformance.checks.networks import optimizer_with_state, smooth
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    compare_trainings,
    compare_updates,
    plans,
    regression,
    start,
)
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.spec.augmentation import InputNoise
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import ConstantRate, LearningRateRamp, WarmUp

UPDATES = 600
"""More than a byte can hold, and than bfloat16 can count, in which 256 + 1 is 256."""


@check("schedule", "many-updates", requires=["layer:dense"], dtype="")
def many_updates(trial: Trial) -> None:
    """Six hundred updates with a schedule and a moving average, by the engine's optimiser that
    keeps the most state, with a plan and natively.

    Why: A counter of updates, as the one in the bias correction of Adam, may stop or start anew.
    Broken by: An engine that counts updates in bfloat16, which cannot count beyond 256, or that has
    a table of the first 500 learning rates.
    Fix: Count updates in an integer of at least 32 bits.
    """
    recipe = Recipe(
        smooth(optimizer_with_state(trial)),
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


@check_each("trajectory", VARIANTS, requires=optimizer_requirements, prefix="long-")
def long(trial: Trial, optimizer: Optimizer) -> None:
    """Forty epochs of two steps, shuffled and augmented, with dropout, a schedule, clipping,
    weight decay and an average, which reveal a count or a memory that ends early.

    Why: Some mistakes start late: a count that overflows, a history that is cut, a correction that
    ends, an order that repeats.
    Broken by: An engine that stops the bias correction of Adam after some steps, counts steps in
    6 bits, or repeats its orders after ten epochs.
    Fix: Find the first step that differs with the plan's limit on the steps, `Plan(steps=...)`.
    """
    convention = conventions_of(trial, optimizer)[0]
    drops = (Dropout(0.2),) if has(trial, "layer:dropout") else ()
    # In all of them, the moving statistics would take half of the time.
    norms = (BatchNorm(moving_decay=0.97),) if optimizer == VARIANTS["sgd"] else ()
    layers = (*norms, Dense(4), Activation("tanh"), *drops, Dense(2))
    model = to_convention(convention, trainable(trial, Model("long", (3,), layers)))
    optimizer = replace(smooth(optimizer), decay=optimizer.decay or WeightDecay(0.05, "coupled"))
    recipe = Recipe(
        optimizer,
        batch_size=4,
        epochs=40,
        loss=example_loss(trial),
        augment=(InputNoise(0.1),),
        schedule=WarmUp(70, ConstantRate(optimizer.learning_rate)),
        clip=ClipNorm(1.0),
        average=WeightAverage(0.97),
    )
    recipe = supported(trial, recipe, convention=convention)
    weights, samples = start(trial, model), regression(trial, 8)
    training = TrainingCase(model, weights, samples, recipe, Plan(0, parity=True))
    compare_trainings(trial, training, "after 80 steps")
