"""Learning rates and batch sizes that change, and limits on the number of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.support import example_loss, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_trainings,
    compare_updates,
    plans,
    regression,
    start,
)
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import requirements
from dlsys_bench.errors import NotApplicableError, count_of
from dlsys_bench.spec.batches import BATCH_SIZES
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import SCHEDULES, CyclicalLearningRate, LearningRateRamp

FLOAT32 = 1e-5
"""The tolerance of learning rates in a history, which an engine may keep in single precision."""


class ScheduleCase(NamedTuple):
    """A recipe, and the limit on the steps of the plan, if it has one."""

    recipe: Recipe
    steps: int | None = None

    @property
    def requires(self) -> list[str]:
        """What the recipe changes from step to step, and its optimiser if that is not the one of
        every case."""
        here, base = (requirements(recipe=recipe, parity=True) for recipe in (self.recipe, BASE))
        return [need for need in here if need not in base]


# With momentum, the conventions differ as soon as the learning rate changes.
BASE = Recipe(
    SGD(0.05, momentum=0.9), batch_size=4, epochs=3, shuffle=False, loss=MeanSquaredError()
)
CYCLE = CyclicalLearningRate(0.01, 0.2, 3)
_BATCH_SIZES = {
    name: sizes for record in BATCH_SIZES.values() for name, sizes in record.examples().items()
}

CASES = {
    **{
        name: ScheduleCase(replace(BASE, schedule=schedule))
        for record in SCHEDULES.values()
        for name, schedule in record.examples().items()
    },
    **{
        name: ScheduleCase(replace(BASE, batch_sizes=sizes)) for name, sizes in _BATCH_SIZES.items()
    },
    **{
        name: ScheduleCase(replace(BASE, optimizer=optimizer, schedule=CYCLE))
        for name, optimizer in VARIANTS.items()
    },
    "both": ScheduleCase(
        replace(
            BASE,
            schedule=LearningRateRamp(1e-3, 0.2, 9),
            batch_sizes=_BATCH_SIZES["cyclical_batch_size"],
        )
    ),
    "steps": ScheduleCase(replace(BASE, steps=5)),
    "steps-of-the-plan": ScheduleCase(BASE, steps=5),
    "steps-fewer-by-the-plan": ScheduleCase(replace(BASE, steps=5), steps=4),
    "steps-fewer-by-the-recipe": ScheduleCase(replace(BASE, steps=3), steps=5),
}

MODEL = Model("scheduled", (3,), (Dense(3), Activation("tanh"), Dense(2)))


@check_each("schedule", CASES, requires=lambda case: case.requires)
def schedule(trial: Trial, case: ScheduleCase) -> None:
    """The weights after every step, which reveal its learning rate, and the history, with a plan
    and natively.

    Why: A learning rate that is one step early or late changes every later weight.
    Broken by: An engine that reads the schedule of {subject} after the update, once per epoch, or
    not at all.
    Fix: Use `recipe.rate(step)` with the number of the update from 0, and the sizes that the recipe
    gives.
    """
    ways = allowing_conventions(trial, case.recipe.optimizer)
    if not ways:
        conventions = ", ".join(trial.engine.conventions)
        raise NotApplicableError(f"the convention of {conventions} does not define this optimiser")
    model = trainable(trial, MODEL)
    samples, weights = regression(trial, 11), start(trial, model)
    own = [replace(plan, steps=case.steps) for plan in plans(trial, seed=trial.seed)]
    for convention in ways:
        recipe = replace(case.recipe, loss=example_loss(trial))
        recipe = supported(trial, recipe, convention=convention)
        training = TrainingCase(model, weights, samples, recipe, own[0])
        expected = train(trial.oracle, trial.oracle.build(model, weights), samples, recipe, own[0])
        compare_updates(trial, training, expected[-1].steps, plans=own)
        for plan in own:
            actual = train(trial.engine, trial.engine.build(model, weights), samples, recipe, plan)
            _compare_histories(actual, expected)


def _compare_histories(actual: list[Epoch], expected: list[Epoch]) -> None:
    """Compare the steps of each epoch, and its figures by step where the recipe changes one."""
    steps = [[epoch.steps for epoch in history] for history in (actual, expected)]
    if steps[0] != steps[1]:
        what = "the steps at the ends of the epochs"
        raise broken(Fault.WRONG_STOP, what, actual=str(steps[0]), expected=str(steps[1]))
    for epoch, reference in zip(actual, expected, strict=True):
        for name, values in (reference.by_step or {}).items():
            what = f"{name} by step in the history of epoch {epoch.epoch}"
            if epoch.by_step is None or name not in epoch.by_step:
                one_each = count_of(len(values), "value")
                raise broken(Fault.WRONG_TYPE, what, actual="nothing", expected=one_each)
            close(what, epoch.by_step[name], values, FLOAT32 * max(values))


@check("schedule", "second-fit", requires=["schedule"])
def second(trial: Trial) -> None:
    """A second training starts its schedule anew.

    Why: A second training is a new training, and its schedule starts at step 0.
    Broken by: An engine that counts steps in the network or in the optimiser it keeps.
    Fix: Count the steps of the training in `fit`.
    """
    model = trainable(trial, MODEL)
    samples, weights = regression(trial, 11), start(trial, model)
    recipe = replace(CASES["ramp"].recipe, loss=example_loss(trial))
    recipe = supported(trial, recipe)
    training = TrainingCase(model, weights, samples, recipe, Plan(1, parity=True))
    for fits, turn in enumerate(("first", "second"), start=1):
        compare_trainings(trial, training, f"after the {turn} fit", fits=fits)
