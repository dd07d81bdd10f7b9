"""What surrounds the optimiser in an update: weight decay, clipping, gradient accumulation and the
moving average of the weights.

Each is a table of cases, with the values of its options. A case is drawn with every optimiser that
the engine has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

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
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import closing, train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import CLIPS, ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout, Embedding, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record
from dlsys_bench.spec.schedules import CosineDecay, WarmUp

STEPS = 4
EXAMPLES = 12


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


class DrawnUpdate(NamedTuple):
    """A recipe in a convention, a model, and a seed of weights and data."""

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


def _optimizers(trial: Trial) -> list[tuple[str, Optimizer]]:
    """Return every optimiser of the engine without decay, in each of its conventions."""
    bare = {replace(each, decay=None): None for each in VARIANTS.values()}
    return [
        (way, optimizer)
        for optimizer in bare
        if has(trial, *optimizer_requirements(optimizer))
        for way in allowing_conventions(trial, optimizer)
    ]


def _with(recipe: Recipe, option: str, value: Any) -> Recipe:
    """Return a recipe with a part; a decay is one of the optimiser."""
    if option == "decay":
        return replace(recipe, optimizer=replace(recipe.optimizer, decay=value))
    return replace(recipe, **{option: value})


def _drawn(
    trial: Trial, case: UpdateCase, beside: Mapping[str, tuple[Any, ...]], model: Model
) -> st.SearchStrategy[DrawnUpdate]:
    """Return a strategy for four updates with a case, and one of the parts `beside` it."""

    def make(base: tuple[str, Optimizer], value: Any, others: Mapping[str, Any], seed: int) -> Any:
        (way, optimizer), parts = base, case.values[0] if case.option == "accumulate" else 2
        recipe = Recipe(
            optimizer, batch_size=3 * parts, epochs=2, shuffle=False, loss=example_loss(trial)
        )
        for option, own in {**others, case.option: value}.items():
            recipe = _with(recipe, option, own)
        return DrawnUpdate(to_convention(way, recipe), way, model, 6 * parts - 1, seed)

    return st.builds(
        make,
        st.sampled_from(_optimizers(trial)),
        st.sampled_from(case.values),
        st.fixed_dictionaries({name: st.sampled_from(each) for name, each in beside.items()}),
        st.integers(0, 2**16),
    )


def _compare(trial: Trial, drawn: DrawnUpdate) -> None:
    loss = drawn.recipe.loss
    model = to_convention(drawn.convention, trainable(trial, drawn.model, loss))
    generator = np.random.default_rng(drawn.seed)
    # No token occurs twice: engines may add up the gradients of one in another order.
    tokens = model.input_dtype == "int"
    samples = model.vocabulary if tokens else drawn.samples
    x = (
        generator.permutation(samples)[:, None]
        if tokens
        else strategies.inputs(model, samples, generator)
    )
    y = strategies.targets(loss, model.output_shape[0], samples, generator)
    weights = strategies.nonzero_weights(model, drawn.seed)
    training = TrainingCase(
        model, weights, Samples(x, y), drawn.recipe, Plan(drawn.seed, parity=True)
    )
    compare_updates(trial, training, min(STEPS, 2 * -(-samples // drawn.recipe.batch_size)))


def _models(trial: Trial) -> list[Model]:
    """Return the networks whose tensors decay: one has embeddings, if the engine has any."""
    tokens = has(trial, "layer:embedding", "layer:flatten")
    return [NETWORK, *([TOKENS] if tokens else [])]


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
    clips = (None, ClipNorm(0.1)) if has(trial, "clip:clip_norm") else (None,)
    for model in _models(trial):
        strategy = _drawn(trial, case, {"clip": clips}, model)
        trial.search(strategy, lambda drawn: _compare(trial, drawn), examples=EXAMPLES)


@check_each("step", CLIPPINGS, requires=lambda case: case.requires)
def clipping(trial: Trial, case: UpdateCase) -> None:
    """Four updates with a clipped gradient, or with a limit that it does not reach.

    Why: Clipping acts on few updates, mostly at the start, and so is rarely looked at.
    Broken by: An engine that clips each tensor by its own norm, clips after the momentum, or scales
    a gradient that is within the limit.
    Fix: Clip the gradient of the whole batch, of all tensors together, before the optimiser sees
    it.
    """
    strategy = _drawn(trial, case, {}, NETWORK)
    trial.search(strategy, lambda drawn: _compare(trial, drawn), examples=EXAMPLES)


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
    strategy = _drawn(trial, case, {}, NETWORK)
    trial.search(strategy, lambda drawn: _compare(trial, drawn), examples=EXAMPLES)


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
    clips = (None, ClipNorm(0.1)) if has(trial, "clip:clip_norm") else (None,)
    strategy = _drawn(trial, case, {"clip": clips}, model)
    trial.search(strategy, lambda drawn: _compare(trial, drawn), examples=EXAMPLES)


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

    def ignoring(drawn: DrawnUpdate) -> DrawnUpdate:
        recipe = replace(drawn.recipe, loss=type(loss).of(ignored_label=1))
        return drawn._replace(recipe=to_convention(drawn.convention, recipe))

    strategy = _drawn(trial, case, {}, model).map(ignoring)
    trial.search(strategy, lambda drawn: _compare(trial, drawn), examples=EXAMPLES)


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
    momentum = {"momentum", "nesterov"}
    names = [name for name in VARIANTS if name in momentum] + list(VARIANTS)
    optimizer = next(
        replace(VARIANTS[name], decay=None)
        for name in names
        if has(trial, f"optimizer:{VARIANTS[name].kind}")
    )
    schedule = WarmUp(2, CosineDecay(0.1, 4), 0.01)
    recipe = Recipe(optimizer, batch_size=6, epochs=3, shuffle=False, loss=example_loss(trial))
    recipe = _with(replace(recipe, schedule=schedule), case.option, case.values[0])
    model = trainable(trial, NETWORK)
    recipe = supported(trial, recipe)
    # The last batch has five samples, in parts of at least two.
    parts = recipe.accumulate or 2
    recipe = replace(recipe, batch_size=3 * parts)
    samples = regression(trial, 6 * parts - 1)
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
