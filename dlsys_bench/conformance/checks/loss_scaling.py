"""Dynamic loss scaling: what a scale changes, when it moves, and what a skipped update leaves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.skipped_updates import (
    INPUTS,
    KERNEL,
    compare_spiked,
    spiked_case,
    with_large_spikes,
    with_limits,
)
from dlsys_bench.conformance.checks.support import example_loss, has, supported
from dlsys_bench.conformance.checks.training import (
    DEFAULT,
    regression_recipe,
)
from dlsys_bench.conformance.checks.update_cases import (
    LOSS_SCALES,
    UpdateCase,
    chosen_optimizers,
    clip_if_available,
    compare_cases,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.epochs import train
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense
from dlsys_bench.spec.loss_scale import LARGEST, SMALLEST, LossScale
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import StepDecay

NEEDED = ("loss_scale", "layer:dense")
SHALLOW = Model("spiked", (INPUTS,), (Dense(3), Activation("tanh"), Dense(2)))
ZERO_HIDDEN = replace(SHALLOW, layers=(Dense(3, use_bias=False), Dense(2)))
"""A network whose hidden units are zero where its inputs are."""

ORDINARY = math.inf
"""The limit of a batch that overflows under no scale."""


@check_each("step", LOSS_SCALES, requires=lambda case: case.requires)
def scaled(trial: Trial, case: UpdateCase) -> None:
    """Four updates under a growing loss scale, with which no gradient overflows.

    Why: A scale has no effect on the training but to keep small gradients from underflow.
    Broken by: An engine that divides by the scale twice or by the next one, or clips the scaled
    gradient.
    Fix: Divide the gradient of the whole batch by the scale of its backward pass, before anything
    else is done with it.
    """
    optimizers, clip = chosen_optimizers(trial, 2), clip_if_available(trial)
    compare_cases(trial, case, optimizers=optimizers, clip=clip)


@check("step", "loss_scale-overflow", requires=NEEDED)
def overflow(trial: Trial) -> None:
    """The first and the fourth of five updates overflow, with each of two optimisers, a weight
    decay and averages. They are skipped: only the moving statistics of a batch norm follow the
    batch.

    Why: A scale that is found by trial overflows now and then, and an update with infinite values
    destroys the weights.
    Broken by: An engine that updates with a zero gradient, or skips the update and still counts it
    in Adam's bias correction, lets weights decay, moves an average, or leaves a velocity in memory
    that was never filled.
    Fix: Decide before anything else of the update, and leave all of it out.
    """
    layers = Dense(3, use_bias=False), BatchNorm(moving_decay=0.7), *SHALLOW.layers[1:]
    _compare_overflow(trial, replace(SHALLOW, layers=layers), 2)


@check("step", "loss_scale-accumulate", requires=(*NEEDED, "accumulate"))
def overflow_of_a_part(trial: Trial) -> None:
    """Updates are accumulated over two parts of a batch under a loss scale, and the first part of
    two batches overflows.

    Why: The scale of a batch is that of all its parts, and an overflow in one of them is an
    overflow of their sum.
    Broken by: An engine that looks only at the last part, leaves out the part and not the batch,
    or divides by the scale once per part.
    Fix: Add up the scaled gradients of the parts, and unscale and check the sum.
    """
    _compare_overflow(trial, SHALLOW, 1, accumulate=2)


def _compare_overflow(trial: Trial, model: Model, most: int, accumulate: int | None = None) -> None:
    """Compare trainings of which two of five updates overflow, with at most `most` optimisers."""
    average = WeightAverage(0.6) if has(trial, "average") else None
    decay = WeightDecay(0.3) if has(trial, "decay:decoupled") else None
    for optimizer in chosen_optimizers(trial, most):
        recipe = Recipe(
            replace(optimizer, decay=decay),
            4,
            epochs=1,
            shuffle=False,
            loss=example_loss(trial),
            clip=clip_if_available(trial),
            average=average,
            loss_scale=LossScale(),
            accumulate=accumulate,
        )
        recipe = to_convention(trial.convention, recipe)
        case = spiked_case(trial, model, recipe, 20)
        compare_spiked(trial, with_large_spikes(trial, case, (False, True, True, False, True)))


@check("step", "loss_scale-overflow-later", requires=NEEDED)
def overflow_of_a_later_tensor(trial: Trial) -> None:
    """The first of three updates overflows in the kernel of the eighteenth layer alone, and is
    skipped.

    Why: The largest gradients may be in any layer.
    Broken by: An engine that looks for infinities in the first or the last tensor, or in the first
    32, or leaves out the tensors that have them.
    Fix: Look at every entry of every gradient before any tensor is updated.
    """
    recipe = regression_recipe(trial, batch_size=4, epochs=1, loss_scale=LossScale())
    layers = (*[Dense(1)] * 17, Dense(2))
    case = spiked_case(trial, replace(SHALLOW, layers=layers), recipe, 12)
    # The spike reaches the last hidden unit, whose weights are zero.
    case.weights[KERNEL][INPUTS:] = 1.0
    for name in case.model.names[1:-1]:
        case.weights[f"{name}.kernel"][...] = 1.0
    case.weights[f"{case.model.names[-1]}.kernel"][...] = 0.0
    compare_spiked(trial, with_large_spikes(trial, case, (False, True, True)))


@check("step", "loss_scale-overflow-nan", requires=NEEDED)
def overflow_to_nan(trial: Trial) -> None:
    """An update whose only values that are not finite are NaN is skipped.

    Why: What overflows inside the backward pass may reach the gradients as zero times infinity.
    Broken by: An engine that looks for infinities alone, or compares the largest value with a
    limit, which no NaN exceeds.
    Fix: Ask whether every entry is finite.
    """
    recipe = regression_recipe(trial, batch_size=2, epochs=1, loss_scale=LossScale())
    case = spiked_case(trial, ZERO_HIDDEN, recipe, 2)
    case.samples.x[...] = 0.0
    # Hidden units of zero hide weights that the backward pass cannot multiply.
    case.weights["dense_2.kernel"][...] = np.finfo(trial.engine.dtype).max / 16
    actual, made = case.run(trial.engine), case.run(trial.oracle)
    for name, values in case.weights.items():
        if not np.isfinite(actual[name]).all():
            raise broken(Fault.NOT_FINITE, f"{name} after an update that overflows", tensor=name)
        # An engine may leave out products with zero, so that nothing overflows.
        is_made = np.abs(actual["dense_2.bias"] - made["dense_2.bias"]).max() < 1e-3
        expected = made[name] if is_made else values
        allowed = trial.tolerance * magnitude(expected)
        close(f"{name} after an update that overflows", actual[name], expected, allowed)


class ScalePattern(NamedTuple):
    """A loss scale, and for each training the logarithm of the limit of each sample, which is a
    batch; the number of epochs, and a moving average of the weights."""

    record: LossScale
    rounds: tuple[tuple[float, ...], ...]
    epochs: int = 1
    average: WeightAverage | None = None

    @property
    def requires(self) -> list[str]:
        """What an engine must have."""
        return ["layer:dense", *self.record.needs, *(["average"] if self.average else [])]


PATTERNS = {
    "backoff": ScalePattern(LossScale(interval=100), ((ORDINARY, 15, 15, 14, 14),)),
    "growth": ScalePattern(
        LossScale(interval=2),
        ((ORDINARY, ORDINARY, 16, ORDINARY, 16, 17, 16, ORDINARY, 15, ORDINARY, 15),),
    ),
    "factors": ScalePattern(
        LossScale(growth=4.0, backoff=0.25, interval=2), ((15, 14, ORDINARY, 15),)
    ),
    "epochs": ScalePattern(LossScale(interval=100), ((13,),), epochs=4),
    "average": ScalePattern(LossScale(), ((13,),), epochs=2, average=WeightAverage(0.6)),
    "again": ScalePattern(LossScale(interval=100), ((15, ORDINARY), (15, ORDINARY))),
    "largest": ScalePattern(LossScale(LARGEST / 2, interval=1), ((ORDINARY, 100, 100, 100),)),
}


@check_each("state", PATTERNS, requires=lambda pattern: pattern.requires, prefix="loss_scale-")
def dynamics(trial: Trial, pattern: ScalePattern) -> None:
    """The scale falls after each overflow, grows after an interval of updates without one, keeps
    its value from epoch to epoch, and starts anew in each training: batches that overflow above a
    limit show where it is. Before the first update, an average is the weights.

    Why: With a scale that stays too low small gradients are lost, and with one that stays too high
    no update is made any more.
    Broken by: An engine whose scale never grows again, grows with every update, grows to infinity,
    or stays from one training to the next.
    Fix: Count the updates since the last overflow or growth, and create the scale in `fit`.
    """
    network, rounds = None, []
    for exponents in pattern.rounds:
        recipe = regression_recipe(
            trial,
            batch_size=1,
            epochs=pattern.epochs,
            loss_scale=pattern.record,
            average=pattern.average,
        )
        case = spiked_case(trial, SHALLOW, recipe, len(exponents))
        network = network or trial.oracle.build(case.model, case.weights)
        limits = [2.0 ** (exponent + 0.5) for exponent in exponents] * pattern.epochs
        rounds.append(with_limits(trial, case, limits, network))
    compare_spiked(trial, *rounds)


@check("state", "loss_scale-smallest", requires=NEEDED)
def fall(trial: Trial) -> None:
    """Every gradient is infinite, however small the loss scale is. A training of two updates leaves
    the smallest scale, and one that goes on raises an error, which names the epoch and the batch of
    the third update. No weight moves.

    Why: A scale that falls to zero skips every update that follows, and nothing shows it but a loss
    that stays.
    Broken by: An engine whose scale falls on and on, or that makes an update with it.
    Fix: Raise a `LossScaleError` when the scale falls below `spec.loss_scale.SMALLEST`;
    `LossScaler.require_scale` does.
    """
    scale = LossScale(4 * SMALLEST, interval=100)
    for batches, epochs, expected in (
        (2, 1, "no error"),
        (5, 1, "a DivergedError in epoch 1, batch 3"),
        (2, 2, "a DivergedError in epoch 2, batch 1"),
    ):
        recipe = regression_recipe(trial, batch_size=2, epochs=epochs, loss_scale=scale)
        case = spiked_case(trial, ZERO_HIDDEN, recipe, 2 * batches)
        case.samples.x[...] = 0.0
        # The gradient of a hidden unit of zero is the kernel times a scale, and still finite.
        case.weights["dense_2.kernel"][...] = np.finfo(trial.engine.dtype).max / 16
        spiked = with_large_spikes(trial, case, (False,) * batches * epochs)
        network = trial.engine.build(case.model, case.weights)
        samples, found = replace(case.samples, x=spiked.x), "no error"
        try:
            train(trial.engine, network, samples, recipe, case.plan)
        except DivergedError as error:
            found = f"a DivergedError in epoch {error.epoch}, batch {error.batch}"
        if found != expected:
            what = f"the end of {batches * epochs} updates that overflow, from a scale of 2**-98"
            raise broken(Fault.NOT_RAISED, what, actual=found, expected=expected)
        for name, values in trial.engine.weights(network).items():
            origin = case.weights[name]
            allowed = trial.tolerance * magnitude(origin)
            close(f"{name} after updates that overflow", values, origin, allowed)


@check("schedule", "loss_scale", requires=(*NEEDED, "schedule"))
def skipped_in_a_schedule(trial: Trial) -> None:
    """The learning rates of a schedule after an update that is skipped, and those in the history.

    Why: Keras counts the updates of its optimiser, and torch's scheduler is called after every
    batch.
    Broken by: An engine that follows the other convention, or reports rates that it has not used.
    Fix: See `LossScale.schedule_counts`.
    """
    schedule = StepDecay(0.2, 1, 0.5)
    for way in trial.engine.conventions:
        recipe = Recipe(DEFAULT, 1, epochs=1, shuffle=False, schedule=schedule)
        recipe = replace(recipe, loss=example_loss(trial), loss_scale=LossScale())
        recipe = supported(trial, recipe, convention=way)
        case = spiked_case(trial, SHALLOW, recipe, 4)
        network = trial.oracle.build(case.model, case.weights)
        spiked = with_limits(trial, case, [ORDINARY, 2.0**15.5, ORDINARY, ORDINARY], network)
        rates = spiked.run(trial.oracle, trial.oracle.build(case.model, case.weights))
        epoch = compare_spiked(trial, spiked)[-1]
        actual = (epoch.by_step or {}).get("learning_rate", [])
        close("the learning rates in the history", actual, rates, 1e-5 * magnitude(rates))
