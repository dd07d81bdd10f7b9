"""Second trainings: of a network that was trained before, and of another network after it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.fitting import conventions_of, requires_optimizer
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
from dlsys_bench.conformance.finding import Fault, broken, close, refining
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.oracle.engine import OracleNetwork
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe


class Twins(NamedTuple):
    """One network on the engine and on the oracle."""

    network: GuardedNetwork
    reference: OracleNetwork


@check_each("trajectory", VARIANTS, requires=requires_optimizer, prefix="again-")
def again(trial: Trial, optimizer: Optimizer) -> None:
    """Two trainings of one network and one of another, by a plan and natively. Each starts with a
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
    for plan in plans(trial):
        case = TrainingCase(model, start(trial, model), samples, recipe, plan)
        first, second = (_twins(trial, case) for _ in range(2))
        how = "by a plan" if plan.parity else "natively"
        _train(trial, first, case, f"the first training of a network {how}")
        _train(trial, first, case, f"the second training of a network {how}")
        _train(trial, second, case, f"a training of another network {how}")
        _look(trial, first, case, f"the training of another network {how}")


def _twins(trial: Trial, case: TrainingCase) -> Twins:
    return Twins(
        trial.engine.build(case.model, case.weights), trial.oracle.build(case.model, case.weights)
    )


def _train(trial: Trial, pair: Twins, case: TrainingCase, which: str) -> None:
    """Train on both, and compare the weights, the history and all that follows from the weights."""
    samples, recipe, plan = case.samples, case.recipe, case.plan
    history = train(trial.oracle, pair.reference, samples, recipe, plan)
    actual = train(trial.engine, pair.network, samples, recipe, plan)
    expected = trial.oracle.weights(pair.reference)
    tolerance = 10 * trial.tolerance
    allowed = relative(tolerance, expected)
    weights = trial.engine.weights(pair.network)
    with refining(partial(explain_second, trial, case)):
        compare_tensors(f"after {which}", weights, expected, allowed)
    numbers = [[(epoch.epoch, epoch.steps) for epoch in each] for each in (actual, history)]
    if numbers[0] != numbers[1]:
        what = f"the epochs and their steps in {which}"
        values = {"actual": str(numbers[0]), "expected": str(numbers[1])}
        raise broken(Fault.WRONG_VALUE, what, **values)
    for epoch, reference in zip(actual, history, strict=True):
        what = f"the running loss of epoch {epoch.epoch} in {which}"
        near = max(1e-5, tolerance) * abs(reference.running_loss)
        close(what, epoch.running_loss, reference.running_loss, near)
    _look(trial, pair, case, which)


def _look(trial: Trial, pair: Twins, case: TrainingCase, which: str) -> None:
    """Compare what an engine computes of a network with what follows from its weights."""
    engine, oracle, samples = trial.engine, trial.oracle, case.samples
    compare_prediction(trial, pair.network, samples.x, which)
    batch = Batch(samples.x, samples.y, training=False)
    reference = oracle.build(case.model, engine.weights(pair.network))
    outputs = oracle.trace(reference, batch)
    compare_tensors(
        f"in a trace after {which}",
        dict(zip(case.model.names, engine.trace(pair.network, batch), strict=True)),
        expected := dict(zip(case.model.names, outputs, strict=True)),
        relative(10 * trial.tolerance, expected),
    )
    gradients = oracle.gradients(reference, batch, case.recipe.loss).weights
    found = engine.gradients(pair.network, batch, case.recipe.loss).weights
    largest = max(relative(10 * trial.tolerance, gradients).values())
    compare_tensors(f"in gradients after {which}", found, gradients, largest)
