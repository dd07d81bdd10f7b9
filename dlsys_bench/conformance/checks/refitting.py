"""Second trainings: of a network that was trained before, and of another network after it."""

from __future__ import annotations

from functools import partial

import numpy as np

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.fitting import conventions_of
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
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe

LOSSES = "running losses"


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


def _trained(case: TrainingCase, fits: int, oracle: Oracle) -> dict[str, Array]:
    """Return the tensors after a number of trainings, and the running losses of the last."""
    network = oracle.build(case.model, case.weights)
    for _ in range(fits):
        history = train(oracle, network, case.samples, case.recipe, case.plan)
    losses = np.array([epoch.running_loss for epoch in history])
    return {**oracle.weights(network), LOSSES: losses}


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
    losses, right_losses = [epoch.running_loss for epoch in history], expected.values[LOSSES]
    # An engine may sum them in single precision.
    allowed = max(expected.allowed(LOSSES), 1e-5 * magnitude(right_losses))
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
