"""Second trainings: of a network that was trained before, and of another network after it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.fitting import conventions_of
from dlsys_bench.conformance.checks.networks import SMOOTH
from dlsys_bench.conformance.checks.support import example_loss, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    compare_prediction,
    compare_tensors,
    explain_second,
    plans,
    regression,
    relative,
    start,
)
from dlsys_bench.conformance.expectation import Expectation, magnitude
from dlsys_bench.conformance.finding import Fault, broken, close, refining
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.spec.augmentation import InputNoise
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.losses import LOSSES, CategoricalCrossEntropy, CrossEntropy, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer
from dlsys_bench.spec.recipe import Recipe

RUNNING_LOSSES = "running losses"


@check_each("trajectory", VARIANTS, requires=optimizer_requirements, prefix="again-")
def again(trial: Trial, optimizer: Optimizer) -> None:
    """Two trainings of one network and one of another, with a plan and natively. Each starts with a
    fresh optimiser and numbers its epochs from 1; predictions, outputs and gradients after it
    follow from the weights that it left.

    Why: Networks are trained in stages, and several in one process; nothing may be left over from
    one training to the next.
    Broken by: An engine that keeps the state of {subject} in the network, or predicts by a compiled
    copy of earlier weights.
    Fix: Create the optimiser in `fit`, and read the weights anew in `predict`, `trace` and
    `gradients`.
    """
    layers = (BatchNorm(moving_decay=0.7), Dense(3), Activation("tanh"), Dense(2))
    convention = conventions_of(trial, optimizer)[0]
    model = to_convention(convention, trainable(trial, Model("again", (3,), layers)))
    loss, samples = example_loss(trial), regression(trial, 10)
    recipe = Recipe(optimizer, batch_size=4, epochs=2, shuffle=False, loss=loss)
    recipe = supported(trial, recipe, convention=convention)
    planned = TrainingCase(model, start(trial, model), samples, recipe, Plan(1, parity=True))
    once, twice = (trial.expect(partial(_trained, planned, fits)) for fits in (1, 2))
    for plan in plans(trial):
        case = planned._replace(plan=plan)
        first, second = (trial.engine.build(case.model, case.weights) for _ in range(2))
        how = "with a plan" if plan.parity else "natively"
        _train(trial, first, case, once, f"the first training of a network {how}")
        _train(trial, first, case, twice, f"the second training of a network {how}")
        _train(trial, second, case, once, f"a training of another network {how}")
        _look(trial, first, case, f"the training of another network {how}")
    once.reject_unless_sharp()


@check("trajectory", "again-otherwise", requires=["layer:dense"])
def otherwise(trial: Trial) -> None:
    """Trainings of one network by recipes that differ in a part, with a plan and natively: the
    options of the optimiser, its kind, the clipping, the average, the loss, the batches, their
    parts or the augmentation. The plan limits the number of updates of each.

    Why: Networks are trained in stages, the later ones with a smaller learning rate, another
    optimiser or another loss.
    Broken by: An engine that compiles the step of a network in its first training, and takes the
    optimiser, the clipping, the average, the loss or the batch size of that training in later ones,
    or that counts the updates of earlier trainings.
    Fix: Keep compiled steps by all of the recipe that they contain, or compile one in each `fit`,
    and count updates from 0 in each.
    """
    loss = example_loss(trial, CategoricalCrossEntropy(label_smoothing=0.1))
    recipes = _recipes(trial, loss)
    # A batch norm sees whether a batch is computed in parts.
    layers = Dense(3), BatchNorm(), Activation("tanh"), Dense(3)
    model = Model("otherwise", (3,), layers)
    model = to_convention(trial.convention, trainable(trial, model, loss))
    x = trial.generator.standard_normal((8, *model.input_shape))
    y = strategies.targets(loss, model.output_shape, 8, trial.generator)
    for each in plans(trial):
        plan, network = replace(each, steps=2), trial.engine.build(model, start(trial, model))
        for what, recipe in recipes.items():
            weights = trial.engine.weights(network)
            case = TrainingCase(model, weights, Samples(x, y), recipe, plan)
            planned = case._replace(plan=replace(plan, parity=True))
            expected = trial.expect(partial(_trained, planned, 1))
            how = "with a plan" if plan.parity else "natively"
            _train(trial, network, case, expected, f"a training with {what} {how}")
            expected.reject_unless_sharp()


def _recipes(trial: Trial, loss: Loss) -> dict[str, Recipe]:
    """Return a recipe, others that differ from it in one part that the engine has, and the first
    again, by what they differ in."""
    decay = WeightDecay(0.1)
    first = Recipe(
        SGD(0.1, momentum=0.9, decay=decay),
        batch_size=4,
        epochs=1,
        shuffle=False,
        loss=loss,
        clip=ClipNorm(0.2),
        average=WeightAverage(0.5),
    )
    parts: dict[str, dict[str, Any]] = {
        "other options of the optimiser": {"optimizer": SGD(0.03, momentum=0.5, decay=decay)},
        "another optimiser": {"optimizer": Adam(0.03, epsilon=SMOOTH)},
        "another limit of the clipping": {"clip": ClipNorm(0.05)},
        "another average": {"average": WeightAverage(0.8)},
        "another loss": {"loss": _other(trial, loss)},
        # Clipping would hide a gradient that is divided by another number.
        "another batch size and no clipping": {"batch_size": 3, "clip": None},
        "parts of a batch, and noise": {
            "batch_size": 8,
            "accumulate": 2,
            "augment": (InputNoise(0.5),),
        },
    }
    own = supported(trial, first)
    recipes = {"the first recipe": own}
    for what, part in parts.items():
        if (changed := supported(trial, replace(first, **part))) != own:
            recipes[what] = changed
    return {**recipes, "the first recipe again": own}


def _other(trial: Trial, loss: Loss) -> Loss:
    """Return a loss with another option or, if it has none, another loss of the same targets."""
    if isinstance(loss, CrossEntropy) and loss.label_smoothing:
        return replace(loss, label_smoothing=0.4)
    records = (LOSSES[kind] for kind in trial.losses if kind != loss.kind)
    return next((record.of() for record in records if record.targets == loss.targets), loss)


def _trained(case: TrainingCase, fits: int, oracle: Oracle) -> dict[str, Array]:
    """Return the tensors after a number of trainings, and the running losses of the last."""
    network = oracle.build(case.model, case.weights)
    for _ in range(fits):
        history = train(oracle, network, case.samples, case.recipe, case.plan)
    losses = np.array([epoch.running_loss for epoch in history])
    return {**oracle.weights(network), RUNNING_LOSSES: losses}


def _train(
    trial: Trial, network: GuardedNetwork, case: TrainingCase, expected: Expectation, which: str
) -> None:
    """Train, and compare the weights, the history and all that follows from the weights."""
    history = train(trial.engine, network, case.samples, case.recipe, case.plan)
    with refining(partial(explain_second, trial, case)):
        for name, values in trial.engine.weights(network).items():
            where = {"layer": name.partition(".")[0], "tensor": name}
            expected.check(name, values, f"{name} after {which}", **where)
    numbers = [(epoch.epoch, epoch.steps) for epoch in history]
    steps = [sum(map(len, case.updates()[:number])) for number in range(1, len(history) + 1)]
    if numbers != list(enumerate(steps, start=1)):
        what = f"the epochs and their steps in {which}"
        right = str(list(enumerate(steps, start=1)))
        raise broken(Fault.WRONG_VALUE, what, actual=str(numbers), expected=right)
    losses, right_losses = (
        [epoch.running_loss for epoch in history],
        expected.values[RUNNING_LOSSES],
    )
    # An engine may sum them in single precision.
    allowed = max(expected.allowed(RUNNING_LOSSES), 1e-5 * magnitude(right_losses))
    close(f"the running losses of {which}", losses, right_losses, allowed)
    _look(trial, network, case, which)


def _look(trial: Trial, network: GuardedNetwork, case: TrainingCase, which: str) -> None:
    """Compare what an engine computes of a network with what follows from its weights."""
    engine, oracle, samples = trial.engine, trial.oracle, case.samples
    compare_prediction(trial, network, samples.x, which)
    batch = Batch(samples.x, samples.y, training=False)
    reference = oracle.build(case.model, engine.weights(network))
    outputs = oracle.trace(reference, batch)
    compare_tensors(
        f"in a trace after {which}",
        dict(zip(case.model.names, engine.trace(network, batch), strict=True)),
        expected := dict(zip(case.model.names, outputs, strict=True)),
        relative(10 * trial.tolerance, expected),
    )
    gradients = oracle.gradients(reference, batch, case.recipe.loss).weights
    found = engine.gradients(network, batch, case.recipe.loss).weights
    largest = max(relative(10 * trial.tolerance, gradients).values())
    compare_tensors(f"in gradients after {which}", found, gradients, largest)
