"""Replicas that train natively, each with its own seed."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.determinism import DROPS, SHUFFLES, ZERO_DENSE, native_case
from dlsys_bench.conformance.checks.replicas import trains_one_by_one
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.epochs import train_replicas
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.layers import Flatten, MultiHeadAttention, SpatialDropout
from dlsys_bench.spec.model import Model

MANY = 33
"""The number of replicas: more than an engine may draw random numbers for at a time."""

EQUAL = 1e-5
"""The relative difference up to which the ends of two trainings are equal."""

DROPPING = {
    "dropout": DROPS,
    **{
        layer.kind: Model("drops", (4, 6), (layer, Flatten(), ZERO_DENSE))
        for layer in (SpatialDropout(0.5), MultiHeadAttention(1, drop_rate=0.5))
    },
}
"""Models whose ends differ only by the units, channels or weights of attention that the first layer
drops."""


@check_each(
    "determinism",
    DROPPING,
    requires=lambda model: ["native", *(f"layer:{layer.kind}" for layer in model.layers)],
    prefix="replicas-drop-",
)
def dropping(trial: Trial, model: Model) -> None:
    """No two of 33 replicas that train natively drop the same. An engine that trains replicas one
    by one is asked for two of them.

    Why: Replicas that drop the same units are not independent.
    Broken by: An engine that draws one mask for all replicas, for every eighth, or for
    the last bits of a seed.
    Fix: Give each replica its own generator, and draw from it what {subject} drops.
    """
    if equal := _equal_seeds(trial, model, shuffle=False):
        kind = model.layers[0].kind
        what = f"replicas with seeds {equal[0]} and {equal[1]} drop the same in {kind}"
        raise broken(Fault.NOT_DETERMINISTIC, what, layer=f"{kind}_1")


@check("determinism", "replicas-shuffle", requires=["native"])
def shuffling(trial: Trial) -> None:
    """No two of 33 replicas that train natively take their samples in the same order. An engine
    that trains replicas one by one is asked for two of them.

    Why: Replicas that share an order are not independent.
    Broken by: An engine that draws one order for all replicas, for every eighth, or for the last
    bits of a seed.
    Fix: Give each replica its own generator, and draw the order of its samples from it.
    """
    if equal := _equal_seeds(trial, SHUFFLES, shuffle=True):
        first, second = equal
        what = f"replicas with seeds {first} and {second} take their samples in the same order"
        raise broken(Fault.NOT_DETERMINISTIC, what)


def _equal_seeds(trial: Trial, model: Model, *, shuffle: bool) -> tuple[int, int] | None:
    """Return two seeds, if there are any, whose replicas end equally after they have trained
    natively from equal weights."""
    model, recipe, samples = native_case(trial, model, shuffle=shuffle)
    # The last seed differs from the first in its highest bit alone.
    plans = [Plan(seed) for seed in (*range(1, MANY), 2**31 + 1)]
    if trains_one_by_one(trial.engine.engine.replicate(model, plans[:1])):
        # Other pairs of seeds are compared by the checks of single networks.
        plans = plans[:2]
    together = trial.engine.engine.replicate(model, [plans[0]] * len(plans))
    train_replicas(together, samples, recipe, plans)
    ended: list[Array] = []
    for replica, plan in enumerate(plans):
        weights = together.weights(replica)
        found = np.concatenate([weights[name].ravel() for name in sorted(weights)])
        # Replicas may round their sums differently.
        allowed = EQUAL * magnitude(found)
        for earlier, other in zip(plans, ended, strict=False):
            if np.abs(found - other).max() <= allowed:
                return earlier.seed, plan.seed
        ended.append(found)
    return None
