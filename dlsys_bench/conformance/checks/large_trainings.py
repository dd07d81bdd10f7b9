"""Trainings and predictions at the sizes of real networks.

A complete gradient of the oracle would take hours here, but the rung of the gradients has shown
that those of the engine are right in every block. So `fit` is compared, entry by entry, with the
formula of the update for gradients of the engine itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.blocks import (
    BATCH_AXES,
    TENSOR_AXES,
    bounds_of,
    close_in_blocks,
    describe_block,
)
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.evaluation import PARTS
from dlsys_bench.conformance.checks.networks import (
    many_tensors,
    mild_weights,
    optimizer_with_state,
    smooth,
)
from dlsys_bench.conformance.checks.sizes import EVERY, large_layer, on_grid, random_example
from dlsys_bench.conformance.checks.subjects import SUBJECTS
from dlsys_bench.conformance.checks.support import needed_layers, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    plans,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.oracle.kinks import GAPS
from dlsys_bench.conformance.oracle.optimizers import OracleState, update_all
from dlsys_bench.conformance.strategies import accepts, usable
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import training_epochs
from dlsys_bench.engines.plan import Plan, Weights
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    FUNCTIONS,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    SampleNorm,
    Shape,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Optimizer
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
    """Three updates of 130 tensors, by the optimiser of the engine that keeps the most state.

    Why: Deep networks have more tensors than an engine's tables or fused kernels may expect.
    Broken by: An engine whose fused optimiser takes at most 128 tensors.
    Fix: Loop over groups of tensors, and test with one more than a group holds.
    """
    _compare_steps(trial, optimizer_with_state(trial), (4,), (), tensors=130)


def _compare_steps(
    trial: Trial, optimizer: Optimizer, shape: Shape, below: tuple[Layer, ...], tensors: int
) -> None:
    """Compare three steps of a deep network with other layers below it."""
    ways = allowing_conventions(trial, optimizer)
    if not ways:
        conventions = ", ".join(trial.engine.conventions)
        raise NotApplicableError(f"the convention of {conventions} does not define this optimiser")
    deep = many_tensors(trial, tensors)
    model = replace(deep, input_shape=shape, layers=(*below, *deep.layers))
    example = random_example(trial, model, samples=48)
    model = to_convention(ways[0], example.model)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = Recipe(smooth(optimizer), batch_size=16, epochs=1, shuffle=False, loss=example.loss)
    recipe, plan = to_convention(ways[0], recipe), Plan(1, parity=True)
    weights = mild_weights(model, trial.seed)
    training = TrainingCase(model, weights, samples, recipe, plan)
    # The rung of the state has the moving statistics.
    compare_with_own_gradients(trial, training, state=False)


def compare_with_own_gradients(
    trial: Trial, training: TrainingCase, *, state: bool = True
) -> Weights:
    """Compare every tensor after a training with the updates that the gradients of the engine
    define, without the `state` that layers move themselves if it is false.

    The tolerance of a tensor is relative to its largest change, with an allowance for rounding
    relative to its values and to the largest change of all tensors: a tensor whose gradient is
    zero, such as that of a bias before a batch norm, moves by the rounding of what cancels.
    Returns the tensors.
    """
    expected, actual = _by_own_gradients(trial, training), training.run(trial.engine)
    eps = float(np.finfo(trial.engine.dtype).eps)
    largest = max(magnitude(expected[name] - start) for name, start in training.weights.items())
    for name in (t.name for t in training.model.tensors if state or t.trainable):
        values = expected[name]
        before = training.weights[name]
        rounding = 4 * eps * (magnitude(before) + largest)
        allowed = trial.tolerance * magnitude(values - before) + rounding
        still = np.array_equal(actual[name], before.astype(trial.engine.dtype))
        what = f"{name} after fit" + (", which has not moved" if still else "")
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
    return found


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


IMAGE, VECTOR = (20, 18, 132), (784,)


@check("trajectory", "fit-large")
def fit_large(trial: Trial) -> None:
    """One step of a network of every layer that the engine has, with many channels and units.

    Why: Real layers are larger than the blocks, tiles and limits that engines have.
    Broken by: An engine that treats channels beyond 128 wrongly in the training step.
    Fix: The finding names the channels or units that differ: look for a limit of that size.
    """
    layers = _every_layer(trial)
    for plan in plans(trial):
        # Native masks are random.
        used = [each for each in layers if plan.parity or not isinstance(each, Dropout)]
        _compare_fit(trial, Model("large", _input(trial), (*used, Dense(3))), plan)


def _input(trial: Trial) -> Shape:
    return IMAGE if "flatten" in trial.kinds else VECTOR


def _every_layer(trial: Trial) -> list[Layer]:
    """Return a layer of every kind and activation that the engine has, those with kinks first.

    Their inputs lie on a grid, so rounding decides no maximum and no sign.
    """
    subjects = [s for s in SUBJECTS.values() if not trial.lacks.intersection(s.requires)]
    shape, chain = _input(trial), list[Layer]()
    # Reversed, since a relu leaves nothing for a leaky relu to do.
    for layer in sorted(map(large_layer, reversed(subjects)), key=_place):
        if accepts(layer, shape):
            chain.append(usable(layer))
            shape = Model("large", shape, (chain[-1],)).output_shape
    return chain


def _place(layer: Layer) -> int:
    """Return the place of a layer: with a kink, for images only, for both, a norm of each sample,
    of several inputs, for vectors only.

    A norm of each sample is above a batch norm, which would take out what its beta adds. Several
    inputs make what is above them wider. A global pool would leave little to the layers above it,
    so it comes after flatten, where it does not fit.
    """
    if layer.kind in GAPS and not (
        isinstance(layer, Activation) and not FUNCTIONS[layer.function].kink
    ):
        return 0
    if layer.kind == "flatten":
        return 5
    if layer.merges or isinstance(layer, SampleNorm):
        return 4 if layer.merges else 3
    images, vectors = accepts(layer, IMAGE), accepts(layer, VECTOR)
    if images and len(layer.output_shape(IMAGE)) == 1:
        return 6
    return 6 if not images else 1 if not vectors else 2


def _compare_fit(trial: Trial, drawn: Model, plan: Plan) -> None:
    example = random_example(trial, drawn, samples=3)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = regression_recipe(trial, SGD(0.5), batch_size=3, epochs=1)
    training = TrainingCase(example.model, example.weights, samples, recipe, plan)
    compare_with_own_gradients(trial, training)


@check("trajectory", "batches-of-512")
def large_batches(trial: Trial) -> None:
    """Two batches of 512 and a smaller one, of 1,100 samples.

    Why: Batches of hundreds of samples are split, and the last one is smaller.
    Broken by: An engine that leaves out the samples beyond the 256th of a batch.
    Fix: The finding names the step that differs: compare its gradient with that of half the batch.
    """
    layers = (Dense(6), Activation("tanh"), BatchNorm(moving_decay=0.7), Dense(2))
    model = trainable(trial, Model("batches", (5,), layers))
    recipe = regression_recipe(trial, batch_size=512, epochs=1)
    samples, weights = regression(trial, 1100, inputs=5), start(trial, model)
    # A native training, which is what users run, if the engine has it.
    plan = plans(trial)[-1]
    compare_with_own_gradients(trial, TrainingCase(model, weights, samples, recipe, plan))


ROWS = {"rows": PARTS["parts"], "rows-of-images": PARTS["parts-of-images"]}


@check_each("evaluation", ROWS, requires=needed_layers)
def rows(trial: Trial, drawn: Model) -> None:
    """Predictions of ten thousand samples. The counts are multiples of the sizes in which engines
    predict, or leave a few samples over.

    Why: Data are predicted in internal batches, of which the last is smaller or is missing.
    Broken by: An engine that drops or repeats the last internal batch of `predict`.
    Fix: Predict the last batch with its own size, and concatenate all.
    """
    model = supported(trial, drawn)
    weights = start(trial, model)
    network, reference = trial.engine.build(model, weights), trial.oracle.build(model, weights)
    x = on_grid(trial.generator, (10_007, *model.input_shape))
    expected = trial.oracle.predict(reference, x)
    allowed = trial.tolerance * magnitude(expected)
    for count in (10_000, 8_192, 10_007):
        actual, what = trial.engine.predict(network, x[:count]), f"the prediction of {count:,}"
        close_in_blocks(what, actual, expected[:count], allowed, BATCH_AXES[2])
