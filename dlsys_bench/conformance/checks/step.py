"""The update of each optimiser for a gradient: the first one, and several in a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.support import example_loss, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_updates,
)
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Activation, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Choices

NETWORK = Model("drawn", (3,), (Dense(3), Activation("tanh"), Dense(2)))
STEPS = 4


class OptimizerCase(NamedTuple):
    """An optimiser in a convention, and a seed of weights and data."""

    optimizer: Optimizer
    convention: str
    seed: int

    def __str__(self) -> str:
        network = "dense(3) tanh dense(2), 6 samples"
        return f"{self.optimizer}, convention of {self.convention}, {network}, seed {self.seed}"


class Variant(NamedTuple):
    """A variant of an optimiser, with the values of its options to draw from."""

    name: str
    record: type[Optimizer]
    choices: Choices

    @property
    def requires(self) -> list[str]:
        """The requirements of an engine that has the variant."""
        return optimizer_requirements(VARIANTS[self.name])


DRAWN = {
    name: Variant(name, record, choices)
    for record in OPTIMIZERS.values()
    for name, choices in record.all_variants().items()
}


@check_each("step", DRAWN, requires=lambda variant: variant.requires)
def step(trial: Trial, variant: Variant) -> None:
    """Four updates of one variant of an optimiser.

    Why: Frameworks define {subject} differently in details that change every weight.
    Broken by: An engine that adds epsilon inside the root, forgets the bias correction, or applies
    the momentum twice.
    Fix: Compare the formula of the record, in the convention of the finding, with the update, one
    term at a time.
    """
    ways = allowing_conventions(trial, VARIANTS[variant.name])
    if not ways:
        conventions = ", ".join(trial.engine.conventions)
        raise NotApplicableError(f"the convention of {conventions} defines no {variant.name}")
    records = strategies.options(variant.choices).map(lambda chosen: variant.record.of(**chosen))
    cases = st.builds(OptimizerCase, records, st.sampled_from(ways), st.integers(0, 2**16))
    trial.search(cases, lambda case: _compare(trial, case))


def _compare(trial: Trial, case: OptimizerCase) -> None:
    loss, model = example_loss(trial), trainable(trial, NETWORK)
    recipe = Recipe(case.optimizer, batch_size=6, epochs=STEPS, shuffle=False, loss=loss)
    generator = np.random.default_rng(case.seed)
    x = generator.standard_normal((6, 3))
    samples = Samples(x, strategies.targets(loss, 2, 6, generator))
    weights = strategies.nonzero_weights(model, case.seed)
    recipe = to_convention(case.convention, recipe)
    training = TrainingCase(model, weights, samples, recipe, Plan(0, parity=True))
    compare_updates(trial, training, STEPS)
