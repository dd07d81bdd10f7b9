"""Whole networks, many steps in a row, by a plan and natively."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evidence import with_diagnosis
from dlsys_bench.conformance.checks.networks import (
    BATCH,
    MLP,
    NETWORKS,
    SAMPLES,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.support import trainable
from dlsys_bench.conformance.checks.training import (
    compare_trainings,
    regression,
    regression_recipe,
    relative,
    start,
)
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import TOLERANCE, Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD

STEPS = 10

GROWTH = {"float64": 100, "float32": 10}
"""The factor by which rounding errors may have grown after ten steps, compared with one."""


@check_each("trajectory", NETWORKS, requires=lambda network: network.requires)
def trajectory(trial: Trial, network: TrajectoryNetwork) -> None:
    """Ten steps over three epochs, the last batch of each smaller, from one plan of weights, order
    and masks. If the engine diverges from the oracle, the finding names the step and the layer."""
    _compare(trial, network, GROWTH[trial.engine.dtype] * trial.tolerance)


@check("trajectory", "float32", dtype="float32")
def single(trial: Trial) -> None:
    """Ten steps in single precision."""
    _compare(trial, MLP, GROWTH["float32"] * trial.loosened(TOLERANCE["float32"]))


def _compare(trial: Trial, network: TrajectoryNetwork, tolerance: float) -> None:
    model, recipe, samples = prepare(trial, network)
    plan = Plan(trial.seed, steps=STEPS)
    found = first_divergence(trial.engine, trial.oracle, model, recipe, samples, plan, tolerance)
    if found is not None:
        planned = replace(plan, parity=True)
        training = TrainingCase(model, plan.weights(model), samples, recipe, planned)
        where = {"layer": found.layer, "tensor": found.tensor, "step": found.step}
        measured = {"difference": found.difference, "allowed": tolerance}
        example = f"{model.name}, {SAMPLES} samples by {BATCH}, seed {trial.seed}"
        with with_diagnosis(trial, training):
            raise broken(Fault.WRONG_VALUE, found.what, **where, **measured, example=example)


@check("trajectory", "native", requires=["native"])
def native(trial: Trial) -> None:
    """Three epochs without a plan. Nothing is shuffled or dropped, so nothing is random."""
    model, recipe, samples = prepare(trial, MLP)
    recipe = replace(recipe, shuffle=False)
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
    tolerance = GROWTH[trial.engine.dtype] * trial.tolerance
    compare_trainings(trial, training, "after 3 epochs", partial(relative, tolerance))


@check("trajectory", "divergence")
def divergence(trial: Trial) -> None:
    """A loss that is not finite raises a DivergedError that names the epoch and the batch."""
    model = trainable(trial, Model("diverging", (3,), (Dense(2),)))
    samples, start_values = regression(trial, 8), start(trial, model)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=2, epochs=2)
    not_finite = {"NaN": samples.x.copy()}
    not_finite["NaN"][5] = np.nan
    if recipe.loss.targets == "values":
        # The square of the output is infinite; NaN only follows from that.
        not_finite["infinite"] = samples.x.copy()
        not_finite["infinite"][5, 0] = 1e200
    for name, x in not_finite.items():
        network = trial.engine.build(model, start_values)
        what, expected = f"the place at which the loss becomes {name}", "epoch 1, batch 3"
        try:
            train(trial.engine, network, Samples(x, samples.y), recipe, Plan(0, parity=True))
        except DivergedError as error:
            if (error.epoch, error.batch) != (1, 3):
                place = f"epoch {error.epoch}, batch {error.batch}"
                raise broken(Fault.WRONG_VALUE, what, actual=place, expected=expected) from None
            continue
        raise broken(Fault.NOT_RAISED, what, actual="no DivergedError", expected=expected)
