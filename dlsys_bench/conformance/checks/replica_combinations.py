"""Replicas that train by recipes with all parts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.combinations import (
    COMBINATIONS,
    Combination,
    combined_model,
    combined_recipe,
    combined_samples,
)
from dlsys_bench.conformance.checks.replicas import (
    compare_losses,
    compare_weights,
    trains_one_by_one,
)
from dlsys_bench.conformance.checks.support import has
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.initializers import Ones, Zeros
from dlsys_bench.spec.layers import Dropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

REPLICAS, FITS = 6, 2

ROWS = 9000
"""The number of inputs of each replica that are predicted: more than an engine may compute at a
time."""


class Replica(NamedTuple):
    """One of the replicas that train together."""

    model: Model
    recipe: Recipe
    samples: Samples
    plan: Plan


def _replicas(trial: Trial, combination: Combination, shared: bool) -> Iterator[Replica]:
    """Yield replicas with learning rates, initialisers and plans of their own, and with samples of
    their own that are shuffled and augmented, or with those of all as they are."""
    for number in range(REPLICAS):
        recipe = combined_recipe(trial, combination, 0.03 + 0.01 * number)
        if shared:
            recipe = replace(recipe, augment=(), shuffle=False)
        model = combined_model(trial, combination, Dropout(0.3))
        if number == 0 or not shared:
            samples = combined_samples(trial, model, recipe.loss)
        own = model.map(_with_biases) if number % 2 and has(trial, "initializer:ones") else model
        yield Replica(own, recipe, samples, Plan(number, parity=True))


def _with_biases(record: Record) -> Record:
    return Ones() if isinstance(record, Zeros) else record


@check("determinism", "replicas-combined", requires=["layer:dense"])
def combined(trial: Trial) -> None:
    """Replicas that train twice by a recipe with all its parts, with every loss and optimiser: each
    ends where it does alone.

    Why: Code that trains many networks at once has an axis more in every loss and every update, and
    a sum over it is silent.
    Broken by: An engine that divides a loss by the number of replicas, or takes the learning rate
    or the initialisers of the first for all.
    Fix: Look for the sums, the means and the scalars in the loss and the optimiser of the example,
    and give each the axis of the replicas.
    """
    for number, combination in enumerate(COMBINATIONS.values()):
        if has(trial, f"loss:{combination.loss.kind}"):
            every = list(_replicas(trial, combination, shared=number % 2 == 0))
            # Those that are compared change, so that each is in one of the combinations.
            compared = number % REPLICAS, (number + REPLICAS // 2) % REPLICAS
            if not _compare(trial, every, compared):
                return  # The others are single networks as well.


def _compare(trial: Trial, every: Sequence[Replica], compared: Sequence[int]) -> bool:
    """Compare some replicas with networks that train alone. Returns False if all are single
    networks."""
    models, recipes, samples, plans = zip(*every, strict=True)
    trial.engine.require(models[0], recipes[0].loss, recipes[0], parity=True, drawn=True)
    together = trial.engine.engine.replicate(models, plans)
    shared = all(own is samples[0] for own in samples)
    for _ in range(FITS):
        histories = train_replicas(together, samples[0] if shared else samples, recipes, plans)
    x = trial.generator.standard_normal((REPLICAS, ROWS, *models[0].input_shape))
    predictions = together.predict(x)
    for replica in compared:
        model, recipe, own, plan = every[replica]
        alone = trial.engine.build(model, plan.weights(model))
        for _ in range(FITS):
            history = train(trial.engine, alone, own, recipe, plan)
        which = f"of replica {replica} of {REPLICAS}, with {recipe.loss} and {recipe.optimizer}"
        compare_losses(trial, which, histories[replica], history)
        compare_weights(trial, which, together.weights(replica), trial.engine.weights(alone))
        expected = trial.engine.predict(alone, x[replica])
        allowed = 10 * trial.tolerance * magnitude(expected)
        close(f"the prediction {which}", predictions[replica], expected, allowed)
    return not trains_one_by_one(together)
