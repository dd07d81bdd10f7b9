"""Replicas of which one diverges."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.replicas import RATES, compare_losses, compare_weights
from dlsys_bench.conformance.checks.support import trainable
from dlsys_bench.conformance.checks.training import regression, regression_recipe
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.layers import BatchNorm, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD


@check("determinism", "diverged-replica", requires=["layer:dense"])
def diverged(trial: Trial) -> None:
    """A replica whose loss becomes NaN is named, with its epoch, and the others are trained as they
    would be alone; a second training has no failures of the first.

    Why: A study of a distribution counts the trainings that fail, and needs all of the others.
    Broken by: An engine that ends the training of all replicas, or whose sums over a batch contain
    the NaN of another replica.
    Fix: Add a DivergedError to `failures`, yield None for the epochs of that replica, and keep the
    other replicas apart from its values.
    """
    model = trainable(trial, Model("diverging", (3,), (BatchNorm(), Dense(2))))
    recipe = regression_recipe(trial, SGD(0.05), batch_size=4, epochs=3)
    every = [regression(trial, 12) for _ in RATES]
    every[1].x[7] = np.nan
    plans = [Plan(number, parity=True) for number in (1, 2, 3)]
    trial.engine.require(model, recipe.loss, recipe, parity=True, drawn=True)
    together = trial.engine.engine.replicate(model, plans)
    histories = train_replicas(together, every, recipe, plans)
    failures = {replica: error.epoch for replica, error in together.failures.items()}
    if failures != {1: 1}:
        what = "the epoch of each replica whose loss becomes NaN"
        raise broken(Fault.NOT_RAISED, what, actual=str(failures), expected="{1: 1}")
    for replica in (0, 2):
        alone = trial.engine.build(model, plans[replica].weights(model))
        history = train(trial.engine, alone, every[replica], recipe, plans[replica])
        which = f"of replica {replica} of 3, of which replica 1 fails"
        compare_losses(trial, which, histories[replica], history)
        compare_weights(trial, which, together.weights(replica), trial.engine.weights(alone))
    for name, values in together.weights(1).items():
        if not np.isfinite(values).all():
            raise broken(Fault.WRONG_VALUE, f"{name} of the replica that failed", tensor=name)
    clean = [every[0]] * 3
    train_replicas(together, clean, recipe, plans)
    if stale := sorted(together.failures):
        what = "the failures of a training in which no loss becomes NaN, after one in which one did"
        raise broken(Fault.STALE_STATE, what, actual=str(stale), expected="[]")
