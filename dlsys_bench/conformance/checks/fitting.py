"""Every layer, optimiser and loss in `fit`, with a plan and natively.

An engine may compute something right in `gradients` and wrong in `fit`, whose path may be fused,
compiled or written separately. Nothing is shuffled or dropped here, so native trainings are not
random either.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

from hypothesis import assume

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.loss_subjects import (
    IGNORING,
    TRAINED,
    LossSubject,
    in_conventions,
    requires_loss,
    requires_native_loss,
)
from dlsys_bench.conformance.checks.networks import mild_weights
from dlsys_bench.conformance.checks.subjects import (
    SUBJECTS,
    LayerSubject,
    convention_of,
    is_smooth,
    networks,
    norm_if_available,
    requires,
    single_layers,
    without_last,
)
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_updates,
    plans,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Dense,
    Flatten,
    Layer,
)
from dlsys_bench.spec.losses import CrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Optimizer
from dlsys_bench.spec.recipe import Recipe


def requires_native(optimizer: Optimizer) -> list[str]:
    """Return what an engine must have to train natively by an optimiser."""
    return [*optimizer_requirements(optimizer), "native"]


@check_each("trajectory", SUBJECTS, requires=requires, prefix="fit-")
def layers(trial: Trial, subject: LayerSubject) -> None:
    """Two steps of a layer above a batch norm, which also shows what the layer passes down; in one
    example something else takes the input of the layer too, and predictions are made before and
    after.

    Why: An engine may compute a layer rightly in `gradients` and wrongly in `fit`, where it is
    fused, compiled or written anew.
    Broken by: An engine whose training step uses other code for {subject} than `gradients`, passes
    a wrong gradient to the layer below, overwrites an input that something else takes, or predicts
    by a copy of earlier weights.
    Fix: Compare the gradient in `fit` with that of `gradients` for the example; share the code if
    possible. Write in place only what nothing else takes, and read the weights anew in `predict`.
    """
    several = single_layers(trial, subject).filter(lambda example: len(example.batch.x) > 1)

    def alone(example: Example) -> None:
        compare_fit(trial, _above_norm(trial, example))

    def beside(example: Example) -> None:
        compare_fit(trial, _above_norm(trial, example), predicts=True)

    trial.search(several, alone, examples=12)
    trial.search(several.map(partial(_beside_input, trial)), beside, examples=1)


def _above_norm(trial: Trial, example: Example) -> Example:
    """Return the example with a batch norm below its network."""
    # Nothing lies below an embedding.
    below = norm_if_available(trial) if example.model.input_dtype == "float" else ()
    model = replace(example.model, layers=(*below, example.model.block), connections=None)
    return example._replace(model=to_convention(convention_of(trial, example.model), model))


def _beside_input(trial: Trial, example: Example) -> Example:
    """Return the example with a network in which something else takes the input of the layer too,
    if that is possible."""
    inner = without_last(example.model)
    other = Flatten() if len(inner.input_shape) > 1 else serial()
    keeps_size = inner.output_shape == (prod(inner.input_shape),)
    join = Add() if keeps_size and has(trial, "layer:add") else Concat()
    kinds = [join.kind, *([other.kind] if isinstance(other, Flatten) else [])]
    if inner.input_dtype == "int" or not has(trial, *(f"layer:{kind}" for kind in kinds)):
        return example
    both = parallel(inner.block, other, join=join)
    layers = both, example.model.layers[-1]
    return example._replace(model=replace(example.model, layers=layers, connections=None))


def compare_fit(
    trial: Trial, example: Example, rate: float = 0.01, *, predicts: bool = False
) -> None:
    """Compare two steps of a network on the batch of an example; if it `predicts`, also the
    predictions before and after them."""
    model, seed, samples = example.model, example.seed, len(example.batch.x)
    weights = strategies.nonzero_weights(model, seed)
    masks = Plan(seed).masks(model, 0, samples)
    batch = example.batch._replace(masks=masks, training=True)
    assume(is_smooth(trial, example._replace(weights=weights, batch=batch)))
    recipe = Recipe(SGD(rate), batch_size=samples, epochs=2, shuffle=False, loss=example.loss)
    recipe = supported(trial, recipe, convention=convention_of(trial, model))
    by_plan, natively = Plan(seed, parity=True), Plan(seed)
    training = TrainingCase(model, weights, Samples(batch.x, batch.y), recipe, by_plan)
    # Native masks are random.
    both = trial.native and trial.has_time and not masks
    compare_updates(trial, training, 2, plans=(by_plan, natively) if both else ())
    if predicts:
        _compare_predictions(trial, training)


def _compare_predictions(trial: Trial, training: TrainingCase) -> None:
    """Compare the predictions before and after a training with those by the weights of a network
    at the time."""
    model, weights, samples, recipe, plan = training
    network = trial.engine.build(model, weights)
    for when in ("before", "after"):
        if when == "after":
            train(trial.engine, network, samples, recipe, plan)
        own = trial.engine.weights(network)
        what = f"the prediction {when} the training, by the weights of the network"

        def compute(oracle: Oracle, own: Weights = own) -> dict[str, Array]:
            return {"outputs": oracle.predict(oracle.build(model, own), samples.x)}

        expected = trial.expect(compute)
        expected.check("outputs", trial.engine.predict(network, samples.x), what)


@check("trajectory", "fit-network", requires=["layer:dense"])
def drawn_networks(trial: Trial) -> None:
    """Two steps of networks of up to six layers, which may branch, with any loss.

    Why: A training step computes no gradient that nothing needs, and in a branching network it is
    easy to leave out one that something needs.
    Broken by: An engine whose training step passes no gradient into a branch that lies beside one
    without parameters.
    Fix: Compare the gradient in `fit` with that of `gradients` for the example, and look at what
    `fit` leaves out.
    """
    trial.search(networks(trial), lambda example: compare_fit(trial, example, 0.05), examples=12)


@check_each("trajectory", VARIANTS, requires=requires_native, prefix="native-")
def optimizers(trial: Trial, optimizer: Optimizer) -> None:
    """Each optimiser natively, with batches of one size and of several.

    Why: Native training is the mode in which people train, and often takes another path through a
    framework.
    Broken by: An engine that hands {subject} to its framework with a default that the record
    overrides.
    Fix: Pass every option of the record on, and check those that the framework names differently.
    """
    # A bias below a batch norm would have a gradient of rounding errors, of which Adam and RMSprop
    # make whole steps.
    layers = (BatchNorm(moving_decay=0.7), Dense(3), Activation("tanh"), Dense(2))
    drawn = trainable(trial, Model("drawn", (3,), layers))
    samples = regression(trial, 10)
    for convention in conventions_of(trial, optimizer):
        model = to_convention(convention, drawn)
        for sizes in (None, CyclicalBatchSize(2, 4)) if has(trial, "batch_sizes") else (None,):
            recipe = Recipe(
                optimizer,
                batch_size=4,
                epochs=3,
                shuffle=False,
                loss=example_loss(trial),
                batch_sizes=sizes,
            )
            recipe = to_convention(convention, recipe)
            training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
            compare_updates(trial, training, 6)


def conventions_of(trial: Trial, optimizer: Optimizer) -> list[str]:
    """Return the conventions of an optimiser. Raises NotApplicableError if there are none."""
    if ways := allowing_conventions(trial, optimizer):
        return ways
    conventions = ", ".join(trial.engine.conventions)
    raise NotApplicableError(f"the convention of {conventions} does not define this optimiser")


@check_each("trajectory", TRAINED, requires=requires_native_loss, prefix="native-")
def losses(trial: Trial, subject: LossSubject) -> None:
    """The weights after native trainings with one loss.

    Why: Native training may use a loss of the framework whose mean or whose form of the targets
    differs.
    Broken by: An engine that sums {subject} over the batch in `fit` where `gradients` takes the
    mean.
    Fix: Divide by the number of samples of the batch, not by the batch size of the recipe.
    """
    outputs = subject.outputs()
    layers = (Dense(4), Activation("tanh"), Dense(outputs[-1]))
    model = supported(trial, Model("drawn", (*outputs[:-1], 3), layers))
    recipe = supported(trial, Recipe(SGD(0.1), batch_size=4, epochs=2, shuffle=False))
    for loss in in_conventions(trial, subject.loss):
        y = strategies.targets(loss, outputs, 11, trial.generator)
        samples = Samples(trial.generator.standard_normal((11, *model.input_shape)), y)
        own = replace(recipe, loss=loss)
        compare_updates(trial, TrainingCase(model, start(trial, model), samples, own, Plan(1)), 6)


@check_each("trajectory", IGNORING, requires=requires_loss, prefix="absent-")
def absent(trial: Trial, subject: LossSubject) -> None:
    """Trainings with batches of which every label is ignored, with a plan and natively, and in
    parts.

    Why: A batch of padding alone has no mean loss; it must move nothing, and end no training.
    Broken by: An engine that divides by the number of labels kept, which is zero, so that the loss
    is NaN.
    Fix: Divide by 1 where no label is kept: loss and gradient are then zero.
    """
    outputs, loss = subject.outputs(), in_conventions(trial, subject.loss)[0]
    assert isinstance(loss, CrossEntropy)
    model = supported(trial, Model("drawn", (*outputs[:-1], 3), (Dense(outputs[-1]),)))
    recipe = supported(trial, Recipe(SGD(0.1), batch_size=2, epochs=2, shuffle=False))
    y = strategies.targets(loss, outputs, 6, trial.generator)
    y[2:4], y[4:] = loss.ignored_label, 0
    samples = Samples(trial.generator.standard_normal((6, *model.input_shape)), y)
    own, ways = replace(recipe, loss=loss), plans(trial)
    training = TrainingCase(model, start(trial, model), samples, own, ways[0])
    compare_updates(trial, training, 6, plans=ways)
    if has(trial, "accumulate"):
        training = training._replace(recipe=replace(own, accumulate=2))
        compare_updates(trial, training, 6, plans=ways[-1:])


@check("trajectory", "large-batch")
def large_batch(trial: Trial) -> None:
    """Batches of 200, which an engine may split: means and statistics are over all samples.

    Why: Engines split large batches over cores or devices, and have to put means and statistics
    together.
    Broken by: An engine that averages the gradients of unequal parts, or normalises each part by
    itself.
    Fix: Weight each part by its number of samples, and compute the statistics over the whole batch.
    """
    layers = (BatchNorm(moving_decay=0.7), Dense(3), Activation("tanh"), Dense(2))
    model = trainable(trial, Model("drawn", (3,), layers))
    recipe = regression_recipe(trial, batch_size=200, epochs=2)
    ways = plans(trial)
    training = TrainingCase(model, start(trial, model), regression(trial, 200), recipe, ways[0])
    compare_updates(trial, training, 2, plans=ways)


@check("trajectory", "deep")
def deep(trial: Trial) -> None:
    """Twelve layers of each kind, whose names have two digits.

    Why: Names such as dense_10 sort between dense_1 and dense_2, and are easily mixed up.
    Broken by: An engine that sorts its tensors by name.
    Fix: Keep tensors in the order of `model.tensors`.
    """
    # The gradients of twelve sigmoids would vanish.
    function = "tanh" if has(trial, "function:tanh") else "linear"
    twelve: tuple[Layer, ...] = (Dense(3), Activation(function)) * 12
    model = trainable(trial, Model("deep", (3,), (*twelve, Dense(2))))
    recipe = regression_recipe(trial, batch_size=6, epochs=2)
    weights, plan = mild_weights(model, trial.seed), Plan(1, parity=True)
    compare_updates(trial, TrainingCase(model, weights, regression(trial, 6), recipe, plan), 2)
