"""Cases of what surrounds the optimiser in an update, and their comparison with the oracle.

Weight decay, clipping, gradient accumulation, the moving average of the weights and loss scaling
are each a table of cases, with the values of its options. A case is compared with a few optimisers,
in each convention in which it differs; every one is a program that an engine may have to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.checks.support import example_loss, has, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_updates,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import BrokenError, close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import CLIPS, Clip, ClipNorm
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import DECAYING, WeightDecay
from dlsys_bench.spec.graph import INPUT
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Embedding, Flatten
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

STEPS = 4


class UpdateCase(NamedTuple):
    """A part of a recipe: the option of the recipe that has it, or "decay", and its values; and
    what an engine must have for it."""

    option: str
    values: tuple[Any, ...]
    requires: tuple[str, ...]


def _cases(
    option: str, record: type[Record], needs: Callable[[Any], Iterable[str]]
) -> dict[str, UpdateCase]:
    """Return a case for each variant of a record."""
    found = {}
    for name, choices in record.all_variants().items():
        numbers = next(iter(choices))
        values = tuple(
            record.of(**{**{n: v[0] for n, v in choices.items()}, numbers: value})
            for value in choices[numbers]
        )
        found[name] = UpdateCase(option, values, tuple(needs(values[0])))
    return found


DECAYS = {
    f"decay-{name}": case
    for name, case in _cases(
        "decay", WeightDecay, lambda record: [f"decay:{record.coupling}"]
    ).items()
}
CLIPPINGS = {
    name: case
    for record in CLIPS.values()
    for name, case in _cases("clip", record, lambda record: [f"clip:{record.kind}"]).items()
}
AVERAGES = _cases("average", WeightAverage, lambda record: ["average"])
LOSS_SCALES = _cases("loss_scale", LossScale, lambda record: record.needs)
ACCUMULATIONS = {
    f"accumulate-{parts}": UpdateCase("accumulate", (parts,), ("accumulate",)) for parts in (2, 9)
}
CASES = DECAYS | CLIPPINGS | AVERAGES | ACCUMULATIONS | LOSS_SCALES

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
            if name in ("optimizer", "clip", "accumulate", "average", "loss_scale")
            and value is not None
        }
        options = ", ".join(f"{name} {value}" for name, value in given.items())
        return (
            f"{options}, convention of {self.convention}, {self.samples} samples in batches of "
            f"{self.recipe.batch_size}, model {self.model.name}, seed {self.seed}"
        )


OPTIMIZERS = ("momentum", "adam", "sgd", "rmsprop")
"""The variants of optimisers that are preferred in examples: those with state come first."""


def chosen_optimizers(trial: Trial, most: int) -> list[Optimizer]:
    """Return at most `most` optimisers of the engine, with state if it has any that has.

    Raises NotApplicableError if it has none.
    """
    known = (VARIANTS[name] for name in OPTIMIZERS)
    found = [each for each in known if has(trial, *optimizer_requirements(each))]
    if not found:
        raise NotApplicableError("the engine lacks every optimiser")
    return found[:most]


def decayed_optimizers(trial: Trial, case: UpdateCase) -> list[Optimizer]:
    """Return the optimisers of the engine with which a case of weight decay is compared.

    The cases of one coupling share all of them, because each is a program to compile.
    """
    without = [name for name, optimizer in VARIANTS.items() if optimizer.decay is None]
    known = (VARIANTS[name] for name in dict.fromkeys((*OPTIMIZERS, *without)))
    found = [
        each
        for each in known
        if has(trial, *optimizer_requirements(each)) and allowing_conventions(trial, each)
    ]
    if not found:
        raise NotApplicableError("the engine lacks every optimiser")
    place = list(DECAYING).index(case.values[0].tensors)
    return found[place % len(found) :: len(DECAYING)]


def batch_size_of(case: UpdateCase) -> int:
    """Return the size of a batch, or of one in parts of three samples."""
    return 3 * case.values[0] if case.option == "accumulate" else 6


def sample_count_of(case: UpdateCase) -> int:
    """Return the number of samples of two batches, of which the second has a smaller last part.

    Only accumulation needs a second size, since some engines compile every size.
    """
    return 2 * batch_size_of(case) - (case.option == "accumulate")


def with_part(recipe: Recipe, option: str, value: Any) -> Recipe:
    """Return a recipe with a part; a decay is one of the optimiser."""
    if option == "decay":
        return replace(recipe, optimizer=replace(recipe.optimizer, decay=value))
    return replace(recipe, **{option: value})


def compare_cases(
    trial: Trial,
    case: UpdateCase,
    model: Model = NETWORK,
    *,
    optimizers: Sequence[Optimizer] = (),
    clip: Clip | None = None,
    loss: Loss | None = None,
) -> None:
    """Compare four updates with a case and each of some optimisers (default: the preferred one);
    with a clipping beside it for the first one."""
    batch_size, samples = batch_size_of(case), sample_count_of(case)
    for number, optimizer in enumerate(optimizers or chosen_optimizers(trial, 1)):
        value = case.values[number % len(case.values)]
        own_loss = loss or example_loss(trial)
        recipe = Recipe(optimizer, batch_size, epochs=2, shuffle=False, loss=own_loss)
        recipe = with_part(replace(recipe, clip=None if number else clip), case.option, value)
        compared = set()
        for way in allowing_conventions(trial, optimizer):
            own = to_convention(way, recipe)
            surroundings = own.optimizer.decay, own.clip, own.loss
            if surroundings not in compared:
                compared.add(surroundings)
                _compare(trial, UpdateExample(own, way, model, samples, trial.seed))


def _compare(trial: Trial, example: UpdateExample) -> None:
    loss = example.recipe.loss
    model = to_convention(example.convention, trainable(trial, example.model, loss))
    generator = np.random.default_rng(example.seed)
    # No token occurs twice: engines may add up the gradients of one in another order.
    tokens = model.input_dtype == "int"
    samples = model.vocabularies[INPUT] if tokens else example.samples
    x = (
        generator.permutation(samples)[:, None]
        if tokens
        else strategies.inputs(model, samples, generator)
    )
    y = strategies.targets(loss, model.output_shape, samples, generator)
    weights = strategies.nonzero_weights(model, example.seed)
    training = TrainingCase(
        model, weights, Samples(x, y), example.recipe, Plan(example.seed, parity=True)
    )
    try:
        steps = min(STEPS, 2 * -(-samples // example.recipe.batch_size))
        # The rung of the state checks the moving statistics.
        trained = {tensor.name for tensor in model.tensors if tensor.trainable}
        compare_updates(trial, training, steps, trained)
    except BrokenError as error:
        raise error.on(example) from None


def clip_if_available(trial: Trial) -> Clip | None:
    return ClipNorm(0.1) if has(trial, "clip:clip_norm") else None


def compare_losses(trial: Trial, training: TrainingCase) -> None:
    """Compare the running losses, which an engine may sum in single precision."""
    model, weights, samples, recipe, plan = training
    engines: tuple[Guard | Engine, ...] = (trial.engine, trial.oracle)
    histories = [
        train(engine, engine.build(model, weights), samples, recipe, plan) for engine in engines
    ]
    actual, expected = ([epoch.running_loss for epoch in history] for history in histories)
    allowed = max(100 * trial.tolerance, 1e-5) * magnitude(np.array(expected))
    close("the running losses", actual, expected, allowed)
