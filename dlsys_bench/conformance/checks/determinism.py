"""Whether a seed decides everything, and nothing else does."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import size
from dlsys_bench.conformance.checks.trajectory import GROWS, _setting
from dlsys_bench.conformance.finding import broken, close
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train, train_replicas
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import Zeros
from dlsys_bench.spec.layers import Activation, Dense, Dropout
from dlsys_bench.spec.losses import MeanSquaredError, SparseCategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

LIKE = Recipe(SGD(0.05), batch_size=4, epochs=3, loss=SparseCategoricalCrossEntropy())
DROPS = Model("drops", (20,), (Dropout(0.5), Dense(1, kernel_initializer=Zeros())))
SHUFFLES = Model("shuffles", (20,), (Dense(1, kernel_initializer=Zeros()),))
BY_ONE = Recipe(SGD(0.01), batch_size=1, epochs=1, loss=MeanSquaredError())


def _network(trial: Trial) -> str:
    """The richest that the engine has."""
    return "mlp-dropout-batch_norm" if {"batch_norm", "dropout"} <= set(trial.kinds) else "mlp"


def _trained(trial: Trial, seed: int, *, parity: bool = False) -> Weights:
    model, recipe, samples = _setting(trial, trial.engine, _network(trial))
    net = trial.engine.build(model, seed=seed)
    train(trial.engine, net, samples, recipe, Plan(seed, parity=parity))
    return trial.engine.weights(net)


@check("determinism", "seed")
def seed(trial: Trial, subject: str) -> None:
    """One seed, one result, to the bit, whatever was trained before; another seed, another."""
    first, other, again = (_trained(trial, number) for number in (1, 2, 1))
    for name, values in first.items():
        if not np.array_equal(values, again[name]):
            apart = float(np.abs(values - again[name]).max())
            raise broken(
                f"{name} differs by {apart:.3g} between two trainings of one seed", tensor=name
            )
    if all(np.array_equal(values, other[name]) for name, values in first.items()):
        raise broken("seeds 1 and 2 train to the same weights")


@check("determinism", "dropout")
def dropout(trial: Trial, subject: str) -> None:
    """The seed of the plan decides the masks, where nothing else is left to chance: the same
    weights, no shuffling."""
    if not _apart(trial, DROPS, replace(BY_ONE, shuffle=False), alone=True):
        raise broken("plans of seeds 1 and 2 drop the same units", layer="dropout_1")


@check("determinism", "plan")
def plan(trial: Trial, subject: str) -> None:
    """The same by a plan."""
    first, again = (_trained(trial, 1, parity=True) for _ in range(2))
    for name, values in first.items():
        if not np.array_equal(values, again[name]):
            raise broken(f"{name} differs between two trainings by one plan", tensor=name)


@check("determinism", "alone")
def alone(trial: Trial, subject: str) -> None:
    """A network that trains leaves every other network, and the generators of the process, as they
    were."""
    model, recipe, samples = _setting(trial, trial.engine, _network(trial))
    one, other = (trial.engine.build(model, seed=number) for number in (1, 2))
    before = trial.engine.weights(one)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    drawn = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    train(trial.engine, other, samples, recipe, Plan(2))
    for name, values in trial.engine.weights(one).items():
        if not np.array_equal(values, before[name]):
            raise broken(f"training one network moved {name} of another", tensor=name)
    if (random.random(), np.random.random()) != drawn:  # noqa: NPY002
        raise broken(
            "fit draws from the generators of the process, or seeds them: give the engine its own"
        )


@check("determinism", "replicas")
def replicas(trial: Trial, subject: str) -> None:
    """Networks that train as one: by a plan each comes to what it comes to alone; natively each has
    an order and masks of its own."""
    engine, convention = trial.engine, trial.engine.conventions[0]
    model = Model("replicas", (6,), (Dense(8), Activation("tanh"), Dropout(0.5), Dense(3)))
    recipes = [
        to_convention(convention, replace(LIKE, optimizer=SGD(rate, momentum=0.9)))
        for rate in (0.02, 0.05, 0.1)
    ]
    samples = Samples(trial.generator.standard_normal((14, 6)), trial.generator.integers(0, 3, 14))
    plans = [Plan(number, parity=True) for number in (1, 2, 3)]
    engine.able(model, LIKE.loss, recipes[0], parity=True)
    together = engine.engine.replicate(model, plans)
    histories = train_replicas(together, samples, recipes, plans)
    predicted = together.predict(samples.x)
    for replica, (own, recipe) in enumerate(zip(plans, recipes, strict=True)):
        net = engine.build(model, own.weights(model))
        told = train(engine, net, samples, recipe, own)
        found = together.weights(replica)
        here = f"of replica {replica} of 3"
        right = engine.predict(net, samples.x)
        close(
            f"predict {here}",
            predicted[replica],
            right,
            GROWS[engine.dtype] * trial.tolerance * size(right),
        )
        for mine, his in zip(histories[replica], told, strict=True):
            allowed = max(1e-5, 10 * trial.tolerance) * abs(his.running_loss)
            close(
                f"the running loss {here}",
                np.array(mine.running_loss),
                np.array(his.running_loss),
                allowed,
            )
        for name, right in trial.engine.weights(net).items():
            allowed = GROWS[trial.engine.dtype] * trial.tolerance * size(right)
            close(f"{name} of replica {replica} of 3", found[name], right, allowed, tensor=name)
    if "native" not in trial.lacks:
        if not _apart(trial, DROPS, replace(BY_ONE, shuffle=False), alone=False):
            raise broken("replicas of seeds 1 and 2 drop the same units", layer="dropout_1")
        if not _apart(trial, SHUFFLES, BY_ONE, alone=False):
            raise broken("replicas of seeds 1 and 2 take their samples in the same order")


def _apart(trial: Trial, model: Model, recipe: Recipe, *, alone: bool) -> bool:
    """Whether native trainings of two seeds, from the same weights, end apart; one by one, or as
    replicas."""
    engine, plans = trial.engine, [Plan(1), Plan(2)]
    model, recipe = (
        to_convention(engine.conventions[0], model),
        to_convention(engine.conventions[0], recipe),
    )
    generator = np.random.default_rng(trial.seed)
    samples = Samples(generator.standard_normal((12, 20)), generator.standard_normal((12, 1)))
    engine.able(model, recipe.loss, recipe)
    if alone:
        nets = [engine.build(model, seed=0) for _ in plans]
        for net, plan in zip(nets, plans, strict=True):
            train(engine, net, samples, recipe, plan)
        one, other = (engine.weights(net) for net in nets)
    else:
        together = engine.engine.replicate(model, plans)
        train_replicas(together, samples, recipe, plans)
        one, other = together.weights(0), together.weights(1)
    return any(not np.array_equal(values, other[name]) for name, values in one.items())
