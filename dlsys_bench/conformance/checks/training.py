"""Trainings that checks compare with the oracle's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.checks.evidence import with_diagnosis
from dlsys_bench.conformance.checks.support import example_loss, supported
from dlsys_bench.conformance.expectation import SHARP_TRAINING, Expectation, magnitude
from dlsys_bench.conformance.finding import Fault, Finding, close
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import SpecError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Optimizer
from dlsys_bench.spec.recipe import Recipe

VARIANTS: dict[str, Optimizer] = {
    name: example for record in OPTIMIZERS.values() for name, example in record.examples().items()
}
"""An example of every variant of every optimiser, by the name in its checks."""


DEFAULT = SGD(0.1)

TRIED_IN_TURN = 32
"""The number of steps up to which the first wrong one is searched for one by one."""


def regression(trial: Trial, samples: int, inputs: int = 3, outputs: int = 2) -> Samples:
    """Return standard normal inputs, and targets of the example loss: standard normal if it takes
    values."""
    x = trial.generator.standard_normal((samples, inputs))
    return Samples(x, strategies.targets(example_loss(trial), outputs, samples, trial.generator))


def regression_recipe(trial: Trial, optimizer: Optimizer = DEFAULT, **options: Any) -> Recipe:
    """Return a recipe for the example loss in the engine's first convention.

    It does not shuffle, unless the options say so.
    """
    recipe = Recipe(optimizer, loss=example_loss(trial), **{"shuffle": False, **options})
    return supported(trial, recipe)


def plans(trial: Trial, *, seed: int = 1) -> list[Plan]:
    """Return a plan with parity and, if the engine trains natively, one without."""
    return [Plan(seed, parity=True), *([Plan(seed)] if trial.native else [])]


def allowing_conventions(trial: Trial, optimizer: Optimizer) -> list[str]:
    """Return the conventions of the engine in which an optimiser is defined."""
    allowed = []
    for way in trial.engine.conventions:
        try:
            to_convention(way, optimizer)
        except SpecError:
            continue  # Keras's definition of momentum has no dampening, for example.
        allowed.append(way)
    return allowed


def start(trial: Trial, model: Model) -> Weights:
    """Return weights without special values for a model, from the seed of the trial."""
    return strategies.nonzero_weights(model, trial.seed)


def compare_updates(
    trial: Trial,
    training: TrainingCase,
    steps: int,
    names: Collection[str] | None = None,
    *,
    plans: Sequence[Plan] = (),
) -> None:
    """Compare the tensors, or those of these names, after a number of steps with the oracle's.

    `plans` are those by which the engine trains, if it has to train by several that make the same
    training. If tensors differ, the finding names the first step after which they do, or, of many
    steps, one that is near it.
    """

    @functools.cache
    def expected(count: int) -> Expectation:
        return _expect_ends(trial, training.stopping_after(count), names=names)

    for plan in plans or (training.plan,):
        own = training._replace(plan=plan)
        with with_diagnosis(trial, own.stopping_after(steps)):

            def compare(count: int, own: TrainingCase = own) -> None:
                _compare_after(trial, own, count, expected(count))

            try:
                compare(steps)
            except AssertionError as error:
                # Another training may not repeat an error, so the one that was raised is kept.
                raise _find_first(compare, steps, error) from None


def _find_first(
    compare: Callable[[int], None], steps: int, error: AssertionError
) -> AssertionError:
    """Find the first wrong step up to `steps`, one by one or, of many steps, by bisection.

    Returns what `compare` raised for it, which is `error` for the last one.
    """
    right, wrong = 0, steps
    while wrong - right > 1:
        count = right + 1 if steps <= TRIED_IN_TURN else (right + wrong) // 2
        try:
            with contextlib.suppress(UnsatisfiedAssumption):
                compare(count)
            right = count
        except AssertionError as earlier:
            wrong, error = count, earlier
    return error


def _compare_after(trial: Trial, training: TrainingCase, steps: int, expected: Expectation) -> None:
    when = "after the update" + ("" if training.plan.parity else " of a native training")
    _compare_ends(trial, training.stopping_after(steps), expected, when, step=steps)


def compare_trainings(trial: Trial, training: TrainingCase, when: str, *, fits: int = 1) -> None:
    """Compare the tensors at the end of a training, or of several in a row, with the oracle's."""
    with with_diagnosis(trial, training) if fits == 1 else contextlib.nullcontext():
        _compare_ends(trial, training, _expect_ends(trial, training, fits), when, fits=fits)


def _expect_ends(
    trial: Trial, training: TrainingCase, fits: int = 1, names: Collection[str] | None = None
) -> Expectation:
    """Return the oracle's tensors, or those of these names, after trainings. Differences are
    relative to the change of each tensor, but what is a rounding error of its values counts as
    none."""

    def scales(values: Mapping[str, Array]) -> dict[str, float]:
        return {name: magnitude(values[name] - training.weights[name]) for name in values}

    def compute(oracle: Oracle) -> Weights:
        found = training.run(oracle, fits)
        return found if names is None else {name: found[name] for name in names}

    return trial.expect(compute, scales, sharp=SHARP_TRAINING)


def _compare_ends(
    trial: Trial,
    training: TrainingCase,
    expected: Expectation,
    when: str,
    *,
    fits: int = 1,
    step: int | None = None,
) -> None:
    """Compare tensors after trainings with the expected ones."""
    actual = training.run(trial.engine, fits)
    for name in expected.values:
        where = {"layer": name.partition(".")[0], "tensor": name, "step": step}
        what, origin = f"{name} {when}", training.weights[name]
        expected.check(name, actual[name], what, **where, origin=origin)
    expected.reject_unless_sharp()


def compare_prediction(trial: Trial, network: GuardedNetwork, x: Array, when: str) -> None:
    """Compare a prediction after `when` with the oracle's by the weights that the engine returns.

    It shows a prediction by earlier weights, by those of another network, or in training mode.
    """
    weights = trial.engine.weights(network)
    expected = trial.oracle.predict(trial.oracle.build(network[1], weights), x)
    actual = trial.engine.predict(network, x)
    allowed = 10 * trial.tolerance * magnitude(expected)
    close(f"the prediction after {when}, by the weights that it left", actual, expected, allowed)


def explain_second(trial: Trial, case: TrainingCase, finding: Finding) -> Finding:
    """Name the mistake if a second training goes on with the optimiser of the first.

    The training is not shuffled, so it then ends as one of twice as many epochs.
    """
    twice = replace(case.recipe, epochs=2 * case.recipe.epochs)
    planned = case._replace(plan=replace(case.plan, parity=True))
    again = planned._replace(weights=planned.run(trial.oracle)).run(trial.oracle)
    going_on = planned._replace(recipe=twice).run(trial.oracle)
    network = trial.engine.build(case.model, case.weights)
    for _ in range(2):
        train(trial.engine, network, case.samples, case.recipe, case.plan)
    actual = trial.engine.weights(network)

    def distance(expected: Weights) -> float:
        return magnitude(*(actual[name] - values for name, values in expected.items()))

    if distance(going_on) > 0.01 * distance(again):
        return finding
    text = "the second training goes on with the optimiser of the first"
    return replace(finding, fault=Fault.STALE_STATE, diagnosis=text)


def compare_tensors(
    when: str,
    actual: Weights,
    expected: Weights,
    allowed: float | dict[str, float],
    *,
    names: Iterable[str] | None = None,
    step: int | None = None,
    origin: Weights | None = None,
) -> None:
    """Raise BrokenError unless tensors agree within one tolerance, or one for each tensor.

    `origin` holds the tensors from which they have changed.
    """
    for name in expected if names is None else names:
        tolerance = allowed[name] if isinstance(allowed, dict) else allowed
        close(
            f"{name} {when}",
            actual[name],
            expected[name],
            tolerance,
            layer=name.partition(".")[0],
            tensor=name,
            step=step,
            origin=0.0 if origin is None else origin[name],
        )


def relative(tolerance: float, tensors: Weights) -> dict[str, float]:
    """Return a tolerance for each tensor, relative to its own largest value."""
    return {name: tolerance * magnitude(values) for name, values in tensors.items()}


def differing(first: Weights, second: Weights) -> list[str]:
    """Return the names of the tensors that are not equal to the bit."""
    return [name for name in first if not np.array_equal(first[name], second[name])]
