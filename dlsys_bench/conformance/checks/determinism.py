"""Whether a seed decides everything, and nothing else does."""

from __future__ import annotations

import random

import numpy as np

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.trajectory import NETWORKS, _setting
from dlsys_bench.conformance.finding import broken
from dlsys_bench.plan import Plan, Weights

NETWORK = next(name for name in NETWORKS if "batch_norm" in name)


def _trained(trial: Trial, seed: int, *, parity: bool = False) -> Weights:
    model, recipe, samples = _setting(trial, trial.engine, NETWORK)
    net = trial.engine.build(model, seed=seed)
    trial.engine.fit(net, samples, recipe, Plan(seed, parity=parity))
    return trial.engine.weights(net)


@check("determinism", "seed")
def seed(trial: Trial, subject: str) -> None:
    """One seed, one result, to the bit, whatever was trained before; another seed, another."""
    first, other, again = (_trained(trial, number) for number in (1, 2, 1))
    for name, values in first.items():
        if not np.array_equal(values, again[name]):
            apart = float(np.abs(values - again[name]).max())
            raise broken(f"{name} differs by {apart:.3g} between two trainings of one seed", tensor=name)
    if all(np.array_equal(values, other[name]) for name, values in first.items()):
        raise broken("seeds 1 and 2 train to the same weights")


@check("determinism", "plan")
def plan(trial: Trial, subject: str) -> None:
    """The same by a plan."""
    first, again = (_trained(trial, 1, parity=True) for _ in range(2))
    for name, values in first.items():
        if not np.array_equal(values, again[name]):
            raise broken(f"{name} differs between two trainings by one plan", tensor=name)


@check("determinism", "alone")
def alone(trial: Trial, subject: str) -> None:
    """A network that trains leaves every other network, and the generators of the process, as they were."""
    model, recipe, samples = _setting(trial, trial.engine, NETWORK)
    one, other = (trial.engine.build(model, seed=number) for number in (1, 2))
    before = trial.engine.weights(one)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    drawn = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    trial.engine.fit(other, samples, recipe, Plan(2))
    for name, values in trial.engine.weights(one).items():
        if not np.array_equal(values, before[name]):
            raise broken(f"training one network moved {name} of another", tensor=name)
    if (random.random(), np.random.random()) != drawn:  # noqa: NPY002
        raise broken("fit draws from the generators of the process, or seeds them: give the engine its own")
