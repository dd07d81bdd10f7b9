"""What surrounds the optimiser in an update: weight decay, clipping, gradient accumulation and the
moving average of the weights.

Each is a table of cases, with the values of its options. A case is compared with a few optimisers,
in each convention in which it differs; every one is a program that an engine may have to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.subjects import label_loss
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_tensors,
    compare_updates,
    regression,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import BrokenError, close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import closing, train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import CLIPS, Clip, ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout, Embedding, Flatten
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record
from dlsys_bench.spec.schedules import CosineDecay, WarmUp

STEPS = 4


class UpdateCase(NamedTuple):
    """A part of a recipe: the option of the recipe that has it, or "decay", and its values; and
    what an engine must have for it."""

    option: str
    values: tuple[Any, ...]
    requires: tuple[str, ...]


def _cases(option: str, record: type[Record], needs: Callable[[Any], str]) -> dict[str, UpdateCase]:
    """Return a case for each variant of a record."""
    found = {}
    for name, choices in record.all_variants().items():
        numbers = next(iter(choices))
        values = tuple(
            record.of(**{**{n: v[0] for n, v in choices.items()}, numbers: value})
            for value in choices[numbers]
        )
        found[name] = UpdateCase(option, values, (needs(values[0]),))
    return found


DECAYS = {
    f"decay-{name}": case
    for name, case in _cases(
        "decay", WeightDecay, lambda record: f"decay:{record.coupling}"
    ).items()
}
CLIPPINGS = {
    name: case
    for record in CLIPS.values()
    for name, case in _cases("clip", record, lambda record: f"clip:{record.kind}").items()
}
AVERAGES = _cases("average", WeightAverage, lambda record: "average")
ACCUMULATIONS = {
    f"accumulate-{parts}": UpdateCase("accumulate", (parts,), ("accumulate",)) for parts in (2, 3)
}
CASES = DECAYS | CLIPPINGS | AVERAGES | ACCUMULATIONS

NETWORK = Model(
    "drawn", (3,), (BatchNorm(moving_decay=0.7), Dense(3), Activation("tanh"), Dense(2))
)
TOKENS = Model("tokens", (1,), (Embedding(6, 3), Flatten(), Dense(2)), input_dtype="int")


class UpdateExample(NamedTuple):
    """A recipe in a convention, a model, the number of samples, and a seed of weights and data."""

    recipe: Recipe
    convention: str
    model: Model
    samples: int
    seed: int

    def __str__(self) -> str:
        given = {
            name: value
            for name, value in vars(self.recipe).items()
            if name in ("optimizer", "clip", "accumulate", "average") and value is not None
        }
        options = ", ".join(f"{name} {value}" for name, value in given.items())
        return (
            f"{options}, convention of {self.convention}, {self.samples} samples in batches of "
            f"{self.recipe.batch_size}, model {self.model.name}, seed {self.seed}"
        )


OPTIMIZERS = ("momentum", "adam", "sgd", "rmsprop")
"""The variants of optimisers that are preferred in examples: those with state come first."""


def _optimizers(trial: Trial, most: int) -> list[Optimizer]:
    """Return at most `most` optimisers of the engine, with state if it has any that has.

    Raises NotApplicableError if it has none.
    """
    known = (VARIANTS[name] for name in OPTIMIZERS)
    found = [each for each in known if has(trial, *optimizer_requirements(each))]
    if not found:
        raise NotApplicableError("the engine lacks every optimiser")
    return found[:most]


def _batch_size(case: UpdateCase) -> int:
    """Return the size of a batch, or of one in parts of three samples."""
    return 3 * case.values[0] if case.option == "accumulate" else 6


def _sample_count(case: UpdateCase) -> int:
    """Return the number of samples of two batches, of which the second has a smaller last part.

    Only accumulation needs a second size, since some engines compile every size.
    """
    return 2 * _batch_size(case) - (case.option == "accumulate")


def _with(recipe: Recipe, option: str, value: Any) -> Recipe:
    """Return a recipe with a part; a decay is one of the optimiser."""
    if option == "decay":
        return replace(recipe, optimizer=replace(recipe.optimizer, decay=value))
    return replace(recipe, **{option: value})


def _compare_all(
    trial: Trial,
    case: UpdateCase,
    model: Model = NETWORK,
    *,
    most: int = 1,
    clip: Clip | None = None,
    loss: Loss | None = None,
) -> None:
    """Compare four updates with a case and each of at most `most` optimisers; with a clipping
    beside it for the first one."""
    batch_size, samples = _batch_size(case), _sample_count(case)
    for number, optimizer in enumerate(_optimizers(trial, most)):
        value = case.values[number % len(case.values)]
        own_loss = loss or example_loss(trial)
        recipe = Recipe(optimizer, batch_size, epochs=2, shuffle=False, loss=own_loss)
        recipe = _with(replace(recipe, clip=None if number else clip), case.option, value)
        compared = set()
        for way in allowing_conventions(trial, optimizer):
            own = to_convention(way, recipe)
            surroundings = own.optimizer.decay, own.clip
            if surroundings not in compared:
                compared.add(surroundings)
                _compare(trial, UpdateExample(own, way, model, samples, trial.seed))


def _compare(trial: Trial, example: UpdateExample) -> None:
    loss = example.recipe.loss
    model = to_convention(example.convention, trainable(trial, example.model, loss))
    generator = np.random.default_rng(example.seed)
    # No token occurs twice: engines may add up the gradients of one in another order.
    tokens = model.input_dtype == "int"
    samples = model.vocabulary if tokens else example.samples
    x = (
        generator.permutation(samples)[:, None]
        if tokens
        else strategies.inputs(model, samples, generator)
    )
    y = strategies.targets(loss, model.output_shape[0], samples, generator)
    weights = strategies.nonzero_weights(model, example.seed)
    training = TrainingCase(
        model, weights, Samples(x, y), example.recipe, Plan(example.seed, parity=True)
    )
    try:
        compare_updates(trial, training, min(STEPS, 2 * -(-samples // example.recipe.batch_size)))
    except BrokenError as error:
        raise error.on(example) from None


def _clip_if_available(trial: Trial) -> Clip | None:
    return ClipNorm(0.1) if has(trial, "clip:clip_norm") else None


@check_each("step", DECAYS, requires=lambda case: case.requires)
def decay(trial: Trial, case: UpdateCase) -> None:
    """Four updates with a weight decay, of kernels, biases, scales and embeddings.

    Why: A decay of other tensors, or at another place of the update, changes every weight a little,
    and no run fails by it.
    Broken by: An engine that lets biases decay, leaves the learning rate out, or passes a decoupled
    decay through the moments of Adam.
    Fix: Compare with the definition of `WeightDecay` one tensor at a time: which ones decay, and
    whether before the update or in its gradient.
    """
    _compare_all(trial, case, most=2, clip=_clip_if_available(trial))
    if has(trial, "layer:embedding", "layer:flatten"):
        _compare_all(trial, case, TOKENS)


@check_each("step", CLIPPINGS, requires=lambda case: case.requires)
def clipping(trial: Trial, case: UpdateCase) -> None:
    """Four updates with a clipped gradient, or with a limit that it does not reach.

    Why: Clipping acts on few updates, mostly at the start, and so is rarely looked at.
    Broken by: An engine that clips each tensor by its own norm, clips after the momentum, or scales
    a gradient that is within the limit.
    Fix: Clip the gradient of the whole batch, of all tensors together, before the optimiser sees
    it.
    """
    _compare_all(trial, case)


@check_each("step", AVERAGES, requires=lambda case: case.requires)
def averages(trial: Trial, case: UpdateCase) -> None:
    """The averages of the weights after each of four updates.

    Why: An average with a wrong start or decay differs little from the weights, and hides in the
    noise of an accuracy.
    Broken by: An engine that starts the average from zero or from the weights before the first
    update, averages moving statistics too, or updates it once per epoch.
    Fix: Compare with the definition of `WeightAverage`, after the first update and after the
    second.
    """
    _compare_all(trial, case)


@check_each("step", ACCUMULATIONS, requires=lambda case: case.requires)
def accumulation(trial: Trial, case: UpdateCase) -> None:
    """Four updates whose gradient is accumulated over parts of a batch, of which the last is
    smaller, through a batch norm and dropout.

    Why: The mean over the parts is the gradient of the batch only if each counts by its samples.
    Broken by: An engine that divides by the number of parts twice or never, counts a smaller part
    as a whole one, or gives every part the dropout mask of the first.
    Fix: Weight the gradient and the loss of a part by its fraction of the samples, and clip and
    update once per batch.
    """
    dropout = (Dropout(0.4),) if has(trial, "layer:dropout") else ()
    model = replace(NETWORK, layers=(*NETWORK.layers[:-1], *dropout, NETWORK.layers[-1]))
    # A clipped gradient hides a wrong scale, so one case has none.
    clip = _clip_if_available(trial) if case.values[0] > 2 else None
    _compare_all(trial, case, model, clip=clip)


@check("step", "accumulate-ignored_label", requires=["accumulate", "loss:ignored_label"])
def accumulation_of_kept(trial: Trial) -> None:
    """Four updates whose gradient is accumulated over parts in which a different number of labels
    is ignored.

    Why: The loss of a batch is a mean over the labels kept, and these are not spread evenly.
    Broken by: An engine that weights the parts by their numbers of samples, as trainers of language
    models did for years.
    Fix: Weight each part by its fraction of what the mean of the batch is divided by.
    """
    case, loss = ACCUMULATIONS["accumulate-2"], label_loss(trial)
    model = Model("ignoring", (3,), (Dense(4), Activation("tanh"), Dense(3)))
    _compare_all(trial, case, model, loss=type(loss).of(ignored_label=1))


@check("step", "accumulate-equals-batch", requires=["accumulate"])
def equals_batch(trial: Trial) -> None:
    """A training in parts of batches equals one in whole batches, without batch norm and dropout.

    Why: Accumulation saves memory; it is not meant to change the training.
    Broken by: An engine that updates after every part, or lets the schedule count parts.
    Fix: Count updates, not parts: learning rates, limits on the steps and the history are those of
    whole batches.
    """
    model = trainable(trial, Model("drawn", (3,), (Dense(4), Activation("tanh"), Dense(2))))
    samples, weights = regression(trial, 11), start(trial, model)
    whole = regression_recipe(trial, batch_size=4, epochs=2)
    trainings = {
        parts: TrainingCase(
            model, weights, samples, replace(whole, accumulate=parts), Plan(1, parity=True)
        )
        for parts in (None, 2, 4)
    }
    expected = trainings[None].run(trial.engine)
    for parts in (2, 4):
        allowed = 100 * trial.tolerance * magnitude(*expected.values())
        actual = trainings[parts].run(trial.engine)
        compare_tensors(f"after batches in {parts} parts", actual, expected, allowed)
        _compare_losses(trial, trainings[parts])


@check("state", "average-between-epochs", requires=["average"])
def between_epochs(trial: Trial) -> None:
    """Whenever an epoch ends, the network has the averages, and the next epoch goes on from the
    weights.

    Why: A network is evaluated between epochs, and it has to be evaluated with what it will have in
    the end.
    Broken by: An engine that puts the averages in at the end of the training alone, or goes on
    training from them.
    Fix: Exchange weights and averages when an epoch ends, and again when the next one begins.
    """
    model, plan = trainable(trial, NETWORK), Plan(1, parity=True)
    samples, weights = regression(trial, 8), start(trial, model)
    recipe = regression_recipe(trial, batch_size=4, epochs=3, average=WeightAverage(0.6))
    training = TrainingCase(model, weights, samples, recipe, plan)
    network = trial.engine.build(model, weights)
    with closing(trial.engine.fit(network, samples, recipe, plan)) as epochs:
        for epoch in epochs:
            expected = training.stopping_after(epoch.steps).run(trial.oracle)
            allowed = 100 * trial.tolerance * magnitude(*expected.values())
            when = f"after epoch {epoch.epoch}"
            compare_tensors(when, trial.engine.weights(network), expected, allowed)


@check_each("trajectory", CASES, requires=lambda case: (*case.requires, "native"), prefix="native-")
def native(trial: Trial, case: UpdateCase) -> None:
    """Three epochs natively with a part of the recipe, and a learning rate that changes.

    Why: Native training is the mode in which people train, and often takes another path through a
    framework.
    Broken by: An engine that decays by the learning rate of the recipe where a schedule gives
    another, or averages over the updates of the last epoch alone.
    Fix: Read the learning rate of the step, and keep the state of an update for the whole training.
    """
    (optimizer,), batch_size = _optimizers(trial, 1), _batch_size(case)
    schedule, loss = WarmUp(2, CosineDecay(0.1, 4), 0.01), example_loss(trial)
    recipe = Recipe(optimizer, batch_size, epochs=3, shuffle=False, loss=loss, schedule=schedule)
    recipe = supported(trial, _with(recipe, case.option, case.values[0]))
    model = trainable(trial, NETWORK)
    samples = regression(trial, _sample_count(case))
    training = TrainingCase(model, start(trial, model), samples, recipe, Plan(1))
    compare_updates(trial, training, 6)
    _compare_losses(trial, training)


def _compare_losses(trial: Trial, training: TrainingCase) -> None:
    """Compare the running losses, which an engine may sum in single precision."""
    model, weights, samples, recipe, plan = training
    engines: tuple[Guard | Engine, ...] = (trial.engine, trial.oracle)
    histories = [
        train(engine, engine.build(model, weights), samples, recipe, plan) for engine in engines
    ]
    actual, expected = ([epoch.running_loss for epoch in history] for history in histories)
    allowed = max(100 * trial.tolerance, 1e-5) * magnitude(np.array(expected))
    close("the running losses", actual, expected, allowed)
