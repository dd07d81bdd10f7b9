"""Trainings at the sizes of real networks.

A complete gradient of the oracle would take hours here, but the rung of the gradients has shown
that those of the engine are right in every block. So `fit` is compared, entry by entry, with the
formula of the update for gradients of the engine itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.blocks import (
    TENSOR_AXES,
    bounds_of,
    close_in_blocks,
    describe_block,
)
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.networks import (
    many_tensors,
    mild_weights,
    optimizer_with_state,
    smooth,
)
from dlsys_bench.conformance.checks.sizes import (
    EVERY,
    random_example,
)
from dlsys_bench.conformance.checks.support import supported
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    plans,
    regression_recipe,
)
from dlsys_bench.conformance.expectation import NOISE, magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.oracle.optimizers import OracleState, update_all
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import training_epochs
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import (
    Dense,
    Layer,
    Shape,
)
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe


@check_each("step", VARIANTS, requires=optimizer_requirements, prefix="large-")
def steps(trial: Trial, optimizer: Optimizer) -> None:
    """Three updates of a layer of 784 by 300, followed by forty tensors.

    Why: Engines update large tensors in blocks and many tensors in groups.
    Broken by: An engine that forgets rows beyond a block, or the 33rd tensor of a group, in the
    update of {subject}.
    Fix: The finding names the rows and columns that differ: look for a limit of that size.
    """
    _compare_steps(trial, optimizer, (784,), (Dense(300), Dense(4)), tensors=40)


@check("step", "tensors-130")
def tensors(trial: Trial) -> None:
    """Three updates of 130 tensors, by the optimiser of the engine that keeps the most state, with
    weight decay, clipping, a moving average and a loss scale.

    Why: Deep networks have more tensors than an engine's tables or fused kernels may expect.
    Broken by: An engine whose fused optimiser takes at most 128 tensors, or whose norm of the
    gradient is that of the first ones.
    Fix: Loop over groups of tensors, and test with one more than a group holds.
    """
    around = Recipe(clip=ClipNorm(0.1), average=WeightAverage(0.6), loss_scale=LossScale())
    optimizer = optimizer_with_state(trial)
    optimizer = replace(optimizer, decay=optimizer.decay or WeightDecay(0.3))
    _compare_steps(trial, optimizer, (4,), (), tensors=130, around=around)


def _compare_steps(
    trial: Trial,
    optimizer: Optimizer,
    shape: Shape,
    below: tuple[Layer, ...],
    tensors: int,
    around: Recipe = Recipe(),  # noqa: B008
) -> None:
    """Compare three steps of a deep network with other layers below it, with what a recipe has
    around its optimiser."""
    ways = allowing_conventions(trial, optimizer)
    if not ways:
        conventions = ", ".join(trial.engine.conventions)
        raise NotApplicableError(f"the convention of {conventions} does not define this optimiser")
    deep = many_tensors(trial, tensors)
    model = replace(deep, input_shape=shape, layers=(*below, *deep.layers))
    example = random_example(trial, model, samples=48)
    model = to_convention(ways[0], example.model)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = replace(around, optimizer=smooth(optimizer), batch_size=16, epochs=1, shuffle=False)
    recipe = supported(trial, replace(recipe, loss=example.loss), convention=ways[0])
    plan = Plan(1, parity=True)
    weights = mild_weights(model, trial.seed)
    training = TrainingCase(model, weights, samples, recipe, plan)
    # The rung of the state has the moving statistics.
    compare_with_own_gradients(trial, training, state=False)


def compare_with_own_gradients(
    trial: Trial, training: TrainingCase, *, state: bool = True, plans: Sequence[Plan] = ()
) -> Weights:
    """Compare every tensor after a training with the updates that the gradients of the engine
    define, without the `state` that layers move themselves if it is false.

    The tolerance of a tensor is relative to its largest change, with an allowance for rounding
    relative to its values and to the largest change of all tensors: a tensor whose gradient is
    zero, such as that of a bias before a batch norm or of the bias of keys, moves by the rounding
    of what cancels.
    `plans` are those by which the engine trains, if it has to train by several that make the same
    training. Returns the tensors of the last one.
    """
    expected = _by_own_gradients(trial, training)
    for plan in plans or (training.plan,):
        actual = _compare_with(trial, training._replace(plan=plan), expected, state)
    return actual


def _compare_with(trial: Trial, training: TrainingCase, expected: Weights, state: bool) -> Weights:
    actual = training.run(trial.engine)
    noise = NOISE[trial.engine.dtype]
    largest = max(magnitude(expected[name] - start) for name, start in training.weights.items())
    for name in (t.name for t in training.model.tensors if state or t.trainable):
        values = expected[name]
        before = training.weights[name]
        rounding = noise * (magnitude(before) + largest)
        allowed = trial.tolerance * magnitude(values - before) + rounding
        still = np.array_equal(actual[name], before.astype(trial.engine.dtype))
        what = f"{name} after " + ("fit" if training.plan.parity else "a native fit")
        what += ", which has not moved" if still else ""
        axes, layer = TENSOR_AXES[values.ndim], name.partition(".")[0]
        close_in_blocks(what, actual[name], values, allowed, axes, layer=layer, tensor=name)
    return actual


def _by_own_gradients(trial: Trial, training: TrainingCase) -> Weights:
    model, weights, samples, recipe, plan = training
    found: Weights = {name: values.astype(np.float64) for name, values in weights.items()}
    states: dict[str, OracleState] = {name: {} for name in found}
    by_plan = replace(plan, parity=True)
    for epoch in training_epochs(model, len(samples.x), recipe, by_plan):
        for step in epoch.steps():
            batch = Batch(samples.x[step.chosen], samples.y[step.chosen], step.masks)
            network = trial.engine.build(model, found)
            gradients = trial.engine.gradients(network, batch, recipe.loss).weights
            found |= trial.oracle.moved_state(trial.oracle.build(model, found), batch)
            exact: Weights = {
                name: gradient.astype(np.float64) for name, gradient in gradients.items()
            }
            found |= update_all(recipe, step, found, exact, states)
    return {name: states[name].get("average", values) for name, values in found.items()}


@check("step", "every-weight")
def every_weight(trial: Trial) -> None:
    """Each of 600 inputs has a sample in which it alone is one, and its weights move.

    Why: The order of the samples is inferred from the weights that move, so every weight has to be
    able to.
    Broken by: An engine that updates at most 512 rows of a kernel.
    Fix: The finding names the rows that stay: look for a limit of that size.
    """
    model = Model("every", (EVERY,), (Dense(3, use_bias=False),))
    example = random_example(trial, model, EVERY)
    samples = Samples(np.eye(EVERY), example.batch.y)
    recipe = regression_recipe(trial, batch_size=EVERY, epochs=1)
    # A native training, which those checks look at, if the engine has it.
    plan = plans(trial)[-1]
    training = TrainingCase(example.model, example.weights, samples, recipe, plan)
    actual = compare_with_own_gradients(trial, training)
    for name, values in actual.items():
        # One weight may happen to be where its sample wants it, but not all of an input.
        still = (values == training.weights[name].astype(values.dtype)).all(axis=1)
        # A margin that a sample reaches gives it no gradient.
        if still.any() and example.loss.targets != "signs":
            block = describe_block(still.shape, bounds_of(still), ("rows",)) or "the rows"
            what = f"{block} of {name} do not move, although each has a sample of its own"
            raise broken(Fault.WRONG_VALUE, what, layer=name.partition(".")[0], tensor=name)
