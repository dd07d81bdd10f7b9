"""What is done beside a training, between its epochs or before it, which must not change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.networks import (
    EVERY_DRAW,
    MLP_DROPOUT_BATCH_NORM,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.support import has
from dlsys_bench.conformance.checks.training import differing
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.guard import GuardedNetwork
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import closing, train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def _case(
    trial: Trial, network: TrajectoryNetwork = MLP_DROPOUT_BATCH_NORM
) -> tuple[Model, Recipe, Samples]:
    """Return a training whose every part an interruption may disturb: an order, masks, moving
    statistics, the state of an optimiser and an average."""
    model, recipe, samples = prepare(trial, network)
    average = None if "average" in trial.lacks else WeightAverage(0.6)
    return model, replace(recipe, average=average), samples


def _train(trial: Trial, beside: Callable[[GuardedNetwork], object] | None = None) -> Weights:
    """Train a network natively with seed 1, and call a function between its epochs."""
    model, recipe, samples = _case(trial)
    network = trial.engine.build(model, seed=1)
    with closing(trial.engine.fit(network, samples, recipe, Plan(1))) as epochs:
        for _ in epochs:
            if beside is not None:
                beside(network)
    return trial.engine.weights(network)


def _compare(expected: Weights, actual: Weights, what: str) -> None:
    for name in differing(expected, actual):
        apart = float(np.abs(expected[name] - actual[name]).max())
        raise broken(Fault.SIDE_EFFECT, f"{name} differs by {apart:.3g} {what}", tensor=name)


@check("determinism", "looking", requires=["native"])
def looking(trial: Trial) -> None:
    """Predictions, outputs and gradients between the epochs of a native training do not change it.

    Why: People evaluate a network after every epoch, and that must not make another training of it.
    Broken by: An engine whose `predict` draws from the generator of the masks, that leaves a
    network in inference mode, or adds the gradients of a look to those of the next update.
    Fix: Leave a network as it was: its mode, its generators, and the gradients it has accumulated.
    """
    expected = _train(trial)
    model, recipe, samples = _case(trial)
    masks = Plan(5).masks(model, 0, len(samples.x))
    # Inference comes last, because a look in training mode would undo what it leaves.
    batches = {
        "training": Batch(samples.x, samples.y, masks, training=True),
        "inference": Batch(samples.x, samples.y, training=False),
    }
    looks: dict[str, Callable[[GuardedNetwork], object]] = {
        "predict": lambda network: trial.engine.predict(network, samples.x)
    }
    for mode, batch in batches.items():
        looks[f"trace in {mode}"] = partial(trial.engine.trace, batch=batch)
        looks[f"gradients in {mode}"] = partial(
            trial.engine.gradients, batch=batch, loss=recipe.loss
        )

    def look(network: GuardedNetwork) -> None:
        for each in looks.values():
            each(network)

    actual = _train(trial, look)
    if not differing(expected, actual):
        return
    for what, one in looks.items():
        _compare(expected, _train(trial, one), f"if {what} is called between the epochs")
    _compare(expected, actual, f"if {', '.join(looks)} are called between the epochs")


@check("determinism", "in-turn", requires=["native"])
def in_turn(trial: Trial) -> None:
    """Two native trainings whose epochs take turns end as each of them does alone.

    Why: Several networks are trained in one process, and each has to be the training of its seed.
    Broken by: An engine that draws from a generator which all trainings share, as that of a
    framework.
    Fix: Keep the generators of a training with it, or put their states back before each epoch.
    """
    model, recipe, samples = _case(trial)
    expected = _train(trial)
    other = trial.engine.build(model, seed=2)
    with closing(trial.engine.fit(other, samples, recipe, Plan(2))) as epochs:
        actual = _train(trial, lambda _: next(epochs, None))
    _compare(expected, actual, "if another network is trained between the epochs")


@check("determinism", "second-fit", requires=["native"])
def second_fit(trial: Trial) -> None:
    """A second native training, of another seed and of samples that were changed in place, is the
    training of a new network with the same weights. Of two networks, one has every layer that
    draws.

    Why: Networks are trained in stages; what is left of the first stage makes the second one
    depend on more than its weights and its seed.
    Broken by: An engine that seeds the masks of a layer in the first `fit` alone, goes on with the
    average of the first, or keeps a copy of the samples by their address.
    Fix: Create the generators, the average and the copies of the data in every `fit`.
    """
    _compare_second_fit(trial, MLP_DROPOUT_BATCH_NORM)
    if has(trial, *EVERY_DRAW.requires):
        _compare_second_fit(trial, EVERY_DRAW)


def _compare_second_fit(trial: Trial, example: TrajectoryNetwork) -> None:
    model, recipe, given = _case(trial, example)
    samples = Samples(given.x.copy(), given.y)
    network = trial.engine.build(model, seed=1)
    train(trial.engine, network, samples, recipe, Plan(1))
    fresh = trial.engine.build(model, trial.engine.weights(network))
    samples.x[...] = samples.x[::-1].copy()
    for each, own in ((network, samples), (fresh, Samples(samples.x.copy(), given.y))):
        train(trial.engine, each, own, recipe, Plan(2))
    expected, actual = map(trial.engine.weights, (fresh, network))
    _compare(expected, actual, "after a second training from that of a new network")
