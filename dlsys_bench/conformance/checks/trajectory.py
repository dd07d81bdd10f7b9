"""Whole networks, many steps in a row, with a plan and natively."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.networks import (
    BATCH,
    ENDS,
    MLP,
    NETWORKS,
    RENAMED,
    SAMPLES,
    TrajectoryNetwork,
    prepare,
)
from dlsys_bench.conformance.checks.support import example_loss, supported, trainable
from dlsys_bench.conformance.checks.training import (
    compare_trainings,
    plans,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.divergence import first_divergence
from dlsys_bench.conformance.finding import Fault, Finding, broken, refining
from dlsys_bench.conformance.oracle.losses import loss_value
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import DivergedError, NotApplicableError
from dlsys_bench.spec.layers import Dense, Embedding, Flatten
from dlsys_bench.spec.losses import CategoricalCrossEntropy, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

STEPS = 10


@check_each("trajectory", NETWORKS, requires=lambda network: network.requires)
def trajectory(trial: Trial, network: TrajectoryNetwork) -> None:
    """Ten steps over three epochs, the last batch of each smaller, from one plan of weights, order
    and masks. If the engine diverges from the oracle, the finding names the step and the layer.

    Why: Parts that are right one by one may not work together over several steps, epochs and a
    smaller last batch.
    Broken by: An engine that gives samples their neighbours' targets when it shuffles, or uses the
    order of the first epoch again.
    Fix: The finding names the first step, and in it the first layer: replay up to that step.
    """
    model, recipe, samples = prepare(trial, network)
    plan = Plan(trial.seed, steps=STEPS, parity=True)
    training = TrainingCase(model, plan.weights(model), samples, recipe, plan)
    with refining(partial(_locate, trial, training)):
        compare_trainings(trial, training, f"after {STEPS} steps")


@check_each("trajectory", RENAMED, requires=lambda network: network.requires, prefix="renamed-")
def renamed(trial: Trial, network: TrajectoryNetwork) -> None:
    """Ten steps of a network whose nodes have the names of other kinds of layers.

    Why: A user may name the nodes of a model, by any text that contains no dot.
    Broken by: An engine that recognises a layer of {subject} by the beginning of its name, or whose
    framework does not accept a name.
    Fix: Select what computes a layer by the type of `row.layer`, and name the framework's layers
    by their places.
    """
    trajectory(trial, network)


@check_each("trajectory", ENDS, requires=lambda network: network.requires, prefix="ends-in-")
def ends(trial: Trial, network: TrajectoryNetwork) -> None:
    """Ten steps of a network whose last layer is not a dense one.

    Why: Most classifiers end in a dense layer, and an engine may treat the last layer as one.
    Broken by: An engine that leaves out a last layer of another kind (here: {subject}), or computes
    the loss and the last layer as one.
    Fix: Treat the last layer as any other; its outputs are those of the network.
    """
    if example_loss(trial, CategoricalCrossEntropy()).targets == "signs":
        raise NotApplicableError("a loss of signs takes one output")
    trajectory(trial, network)


def _locate(trial: Trial, training: TrainingCase, finding: Finding) -> Finding:
    """Return a finding with the first step and the first layer that differ, if one does."""
    if finding.allowed is None:
        return finding
    model, _, samples, recipe, plan = training
    engines = trial.engine, trial.oracle
    found = first_divergence(*engines, model, recipe, samples, plan, finding.allowed)
    if found is None:
        return finding
    where: dict[str, Any] = {"layer": found.layer, "tensor": found.tensor, "step": found.step}
    example = f"{model.name}, {SAMPLES} samples by {BATCH}, seed {trial.seed}"
    return replace(finding, what=found.what, difference=found.difference, example=example, **where)


@check("trajectory", "native", requires=["native"])
def native(trial: Trial) -> None:
    """Three epochs without a plan. Nothing is shuffled or dropped, so nothing is random.

    Why: Native training is the mode in which people train; here nothing in it is random, so it is
    known exactly.
    Broken by: An engine that adds weight decay, clips gradients or skips the last batch by a
    default of its framework.
    Fix: Compare with the training with a plan, which gives the same weights here.
    """
    model, recipe, samples = prepare(trial, MLP)
    recipe = replace(recipe, shuffle=False)
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
    compare_trainings(trial, training, "after 3 epochs")


ALIGNED = {
    "vectors": Model("vectors", (3,), (Dense(3),)),
    "sequences": Model("sequences", (4, 3), (Flatten(), Dense(3))),
    "images": Model("images", (3, 3, 2), (Flatten(), Dense(3))),
    "tokens": Model("tokens", (4,), (Embedding(9, 3), Flatten(), Dense(3)), input_dtype="int"),
    "positions": Model("positions", (4,), (Embedding(9, 3), Dense(3)), input_dtype="int"),
}
"""A network for each kind of inputs and targets."""


def _needs_to_align(model: Model) -> list[str]:
    of_positions = ["loss:positions"] * (len(model.output_shape) > 1)
    return ["native", *(f"layer:{layer.kind}" for layer in model.layers), *of_positions]


@check_each("trajectory", ALIGNED, requires=_needs_to_align, prefix="aligned-")
def aligned(trial: Trial, model: Model) -> None:
    """Three shuffled epochs without a plan, of one batch each, with values and with labels as
    targets. As no batch depends on the order, the weights are known exactly.

    Why: An engine may gather inputs and targets of every kind by other code, and one in another
    order than the other.
    Broken by: An engine that shuffles {subject}, or their labels, and not what belongs to them.
    Fix: Take inputs and targets by the same indices.
    """
    wanted = MeanSquaredError(), CategoricalCrossEntropy()
    for loss in dict.fromkeys(example_loss(trial, each) for each in wanted):
        if loss.targets == "signs" and len(model.output_shape) > 1:
            raise NotApplicableError("a loss of signs takes one output")
        own = trainable(trial, model, loss)
        x = strategies.inputs(own, SAMPLES, trial.generator)
        y = strategies.targets(loss, own.output_shape, SAMPLES, trial.generator)
        recipe = supported(trial, Recipe(SGD(0.1), batch_size=SAMPLES, epochs=3, loss=loss))
        training = TrainingCase(own, start(trial, own), Samples(x, y), recipe, Plan(1))
        compare_trainings(trial, training, f"after 3 shuffled epochs of one batch of {loss.kind}")


@check("trajectory", "divergence")
def divergence(trial: Trial) -> None:
    """A loss that is not finite raises a DivergedError that names the epoch and the batch, with a
    plan and natively, in the first epoch or later, and if batches are computed in parts.

    Why: A training that has diverged should end at once, with the place where it happened.
    Broken by: An engine that goes on with NaN, or that names the batch after the one whose loss
    overflowed.
    Fix: Test every batch's loss, and raise `DivergedError(epoch, batch, loss)`; `EpochRun.add`
    does.
    """
    model = trainable(trial, Model("diverging", (3,), (Dense(2),)))
    weights = start(trial, model)
    # The kernel of an input that only one sample has.
    weights["dense_1.kernel"][0] = 0.0
    for plan, case in product(plans(trial), _diverging(trial)):
        network = trial.engine.build(model, weights)
        where = "" if plan.parity else " of a native training"
        what = f"the place at which the loss{where} becomes {case.name}"
        expected = f"epoch {case.epoch}, batch 3"
        try:
            train(trial.engine, network, case.samples, case.recipe, plan)
        except DivergedError as error:
            if (error.epoch, error.batch) != (case.epoch, 3):
                place = f"epoch {error.epoch}, batch {error.batch}"
                raise broken(Fault.WRONG_VALUE, what, actual=place, expected=expected) from None
            continue
        raise broken(Fault.NOT_RAISED, what, actual="no DivergedError", expected=expected)


class Diverging(NamedTuple):
    """A training whose loss becomes NaN or infinite (`name`) in the third batch of an epoch."""

    name: str
    samples: Samples
    recipe: Recipe
    epoch: int = 1


def _diverging(trial: Trial) -> Iterator[Diverging]:
    """Yield the trainings that diverge, of which the engine has all parts."""
    samples = regression(trial, 8)
    recipe = regression_recipe(trial, SGD(0.01), batch_size=2, epochs=2)
    samples.x[:, 0] = 0.0

    def with_input(place: tuple[int, ...], value: float) -> Samples:
        x = samples.x.copy()
        x[place] = value
        return Samples(x, samples.y)

    not_a_number = with_input((5,), np.nan)
    yield Diverging("NaN", not_a_number, recipe)
    parts = supported(trial, replace(recipe, accumulate=2))
    if parts.accumulate:
        yield Diverging("NaN in a part", not_a_number, parts)
    overflows = loss_value(recipe.loss, np.full((1, 1, 2), 1e200 + 0j), samples.y[:1])
    if not np.isfinite(overflows).all():
        # The square of the output is infinite; NaN only follows from that.
        yield Diverging("infinite", with_input((5, 1), 1e200), recipe)
    if isinstance(recipe.optimizer, SGD) and isinstance(recipe.loss, MeanSquaredError):
        # The first update multiplies the input by itself, and no other batch has it.
        large = float(np.finfo(trial.engine.dtype).max ** 0.6)
        yield Diverging("infinite by an update", with_input((5, 0), large), recipe, epoch=2)
