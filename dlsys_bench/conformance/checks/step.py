"""What each optimiser makes of a gradient: after one update, and after several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.subjects import size
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, Optimizer
from dlsys_bench.spec.recipe import Recipe

OPTIONS: Mapping[str, tuple[str, Mapping[str, tuple[Any, ...]]]] = {
    "sgd": ("sgd", {"learning_rate": (0.1, 0.01)}),
    "momentum": ("sgd", {"learning_rate": (0.1,), "momentum": (0.9, 0.5)}),
    "nesterov": ("sgd", {"learning_rate": (0.1,), "momentum": (0.9, 0.5), "nesterov": (True,)}),
    "dampening": (
        "sgd",
        {
            "learning_rate": (0.1,),
            "momentum": (0.9,),
            "dampening": (0.5, 0.1),
            "velocity": ("gradient",),
        },
    ),
    "adam": (
        "adam",
        {
            "learning_rate": (0.01,),
            "beta_1": (0.9, 0.5, 0.0),
            "beta_2": (0.999, 0.9),
            "epsilon": (1e-7, 1e-3, 0.1),
        },
    ),
    "rmsprop": (
        "rmsprop",
        {"learning_rate": (0.01,), "rho": (0.9, 0.5), "epsilon": (1e-7, 1e-3, 0.1)},
    ),
}

NETWORK = Model("drawn", (3,), (Dense(3), Activation("tanh"), Dense(2)))
STEPS = 4


class Update(NamedTuple):
    """An optimiser in a convention, and a seed for weights and data."""

    optimizer: Optimizer
    convention: str
    seed: int

    def __str__(self) -> str:
        return f"{self.optimizer}, {self.convention}'s way, dense(3) tanh dense(2), 6 samples, seed {self.seed}"


def trained(
    engine: Engine | Guard,
    model: Model,
    weights: Weights,
    samples: Samples,
    recipe: Recipe,
    plan: Plan,
) -> Weights:
    """The tensors after a training that begins with these."""
    net: Any = engine.build(model, weights)
    train(engine, net, samples, recipe, plan)
    return engine.weights(net)


def compare(
    trial: Trial,
    model: Model,
    weights: Weights,
    samples: Samples,
    recipe: Recipe,
    plan: Plan,
    steps: int,
) -> None:
    """Whether so many steps lead where the oracle's do; if not, the first that does not is named.

    What is allowed is taken from how far the oracle's steps lead.
    """

    def look(count: int) -> None:
        here = plan.stopping_after(count)
        right = trained(trial.oracle, model, weights, samples, recipe, here)
        found = trained(trial.engine, model, weights, samples, recipe, here)
        allowed = trial.tolerance * size(*(right[name] - weights[name] for name in right))
        for name in right:
            told = f"{name} after the update"
            close(
                told,
                found[name],
                right[name],
                allowed,
                layer=name.partition(".")[0],
                tensor=name,
                step=count,
            )

    try:
        look(steps)
    except AssertionError:
        for count in range(1, steps):
            look(count)
        raise


@check("step", *OPTIONS)
def step(trial: Trial, subject: str) -> None:
    kind, options = OPTIONS[subject]
    ways = [way for way in trial.engine.conventions if subject != "dampening" or way == "torch"]
    if not ways:
        raise NotApplicableError(
            f"the convention of {', '.join(trial.engine.conventions)} knows no dampening"
        )
    drawn = st.builds(
        Update,
        st.fixed_dictionaries(
            {name: st.sampled_from(values) for name, values in options.items()}
        ).map(lambda chosen: OPTIMIZERS[kind].of(**chosen)),
        st.sampled_from(ways),
        st.integers(0, 2**16),
    )

    def body(update: Update) -> None:
        recipe = Recipe(
            update.optimizer, batch_size=6, epochs=STEPS, shuffle=False, loss=MeanSquaredError()
        )
        generator = np.random.default_rng(update.seed)
        samples = Samples(generator.standard_normal((6, 3)), generator.standard_normal((6, 2)))
        weights = strategies.nonzero_weights(NETWORK, update.seed)
        compare(
            trial,
            NETWORK,
            weights,
            samples,
            to_convention(update.convention, recipe),
            Plan(0, parity=True),
            STEPS,
        )

    trial.search(drawn, body)
