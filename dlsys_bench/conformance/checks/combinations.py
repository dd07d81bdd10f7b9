"""Trainings with all parts of a recipe at once.

The checks of a part have a recipe of little else, so that they can name it. What goes wrong where
two parts meet, such as a schedule that counts the parts of accumulated batches, shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.loss_subjects import LOSS_SUBJECTS
from dlsys_bench.conformance.checks.networks import optimizer_with_state, smooth
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import (
    VARIANTS,
    allowing_conventions,
    compare_updates,
    plans,
    start,
)
from dlsys_bench.conformance.checks.update_cases import DECAYS
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.spec.augmentation import InputNoise
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import Activation, BatchNorm, Dense, Dropout, Layer
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import ConstantRate, WarmUp

SAMPLES = 15
"""The number of samples: a batch of 5 and one of 10, in parts of 3 and 2, and of 5 and 5."""

CLIPS: tuple[Clip | None, ...] = (ClipNorm(0.5), ClipValue(0.1), None)
"""What limits the gradients. These leave some of them as they are, and a recipe without a limit
shows a gradient of a wrong scale."""

SCALE = LossScale(1024.0, interval=2)
"""A loss scale that grows in the second epoch."""


class Combination(NamedTuple):
    """A loss and what it is combined with.

    The optimiser has the decay. `convention` is the place of the convention among those of the
    engine.
    """

    loss: Loss
    optimizer: Optimizer
    clip: Clip | None
    convention: int

    @property
    def requires(self) -> list[str]:
        """The requirements of an engine that has the loss, and layers to train."""
        return ["layer:dense", f"loss:{self.loss.kind}"]


def _combinations() -> Iterator[tuple[str, Combination]]:
    """Yield every loss, with all its options, beside every optimiser, decay and clipping."""
    optimizers, decays = list(VARIANTS.values()), list(DECAYS.values())
    for number, kind in enumerate(LOSSES):
        of_kind = [s for s in LOSS_SUBJECTS.values() if s.record.kind == kind and not s.positions]
        loss = max(of_kind, key=lambda subject: len(subject.choices)).loss
        optimizer = smooth(optimizers[number % len(optimizers)])
        decay: WeightDecay = decays[number % len(decays)].values[1]
        clip, convention = CLIPS[number % len(CLIPS)], -(number % 2 == 0)
        yield kind, Combination(loss, replace(optimizer, decay=decay), clip, convention)


COMBINATIONS: Mapping[str, Combination] = dict(_combinations())
"""The combinations by the name of the loss. Each optimiser, decay and clipping is in one of them,
and all other parts of a recipe are in all of them, so that every two parts meet."""


def _optimizer(trial: Trial, combination: Combination) -> Optimizer:
    """Return the optimiser of a combination, or one that the engine has, with its decay."""
    optimizer = combination.optimizer
    needed = optimizer_requirements(replace(optimizer, decay=None))
    if has(trial, *needed) and allowing_conventions(trial, optimizer):
        return optimizer
    return replace(smooth(optimizer_with_state(trial)), decay=optimizer.decay)


def _convention(trial: Trial, combination: Combination) -> str:
    """Return the convention of a combination: the first or the last that defines its optimiser."""
    return allowing_conventions(trial, _optimizer(trial, combination))[combination.convention]


def combined_recipe(trial: Trial, combination: Combination, rate: float = 0.05) -> Recipe:
    """Return a recipe of two epochs with all parts that the engine has, but no loss scale."""
    recipe = Recipe(
        replace(_optimizer(trial, combination), learning_rate=rate),
        # Without batches of several sizes, 15 samples make parts of 4, 4, 4 and 3 samples. No part
        # may have one sample, of which a batch norm has no variance.
        batch_size=8,
        epochs=2,
        loss=example_loss(trial, combination.loss),
        augment=(InputNoise(0.3),),
        schedule=WarmUp(3, ConstantRate(rate), start=rate / 2),
        batch_sizes=CyclicalBatchSize(5, 10),
        clip=combination.clip,
        accumulate=2,
        average=WeightAverage(0.6),
    )
    return supported(trial, recipe, convention=_convention(trial, combination))


def combined_model(trial: Trial, combination: Combination, *above: Layer) -> Model:
    """Return a network with moving statistics for a combination, with these layers below the
    last."""
    loss = example_loss(trial, combination.loss)
    weights = getattr(loss, "class_weights", None)
    last = Dense(len(weights) if weights else 3)
    layers = (BatchNorm(moving_decay=0.7), Dense(4), Activation("tanh"), *above, last)
    model = trainable(trial, Model("combined", (3,), layers), loss)
    return to_convention(_convention(trial, combination), model)


def combined_samples(trial: Trial, model: Model, loss: Loss) -> Samples:
    """Return random samples."""
    x = strategies.inputs(model, SAMPLES, trial.generator)
    return Samples(x, strategies.targets(loss, model.output_shape, SAMPLES, trial.generator))


@check_each("trajectory", COMBINATIONS, requires=lambda each: each.requires, prefix="combined-")
def combined(trial: Trial, combination: Combination) -> None:
    """Two epochs with every part of a recipe at once, with a plan and natively: batches of several
    sizes in parts, augmentation, a schedule, clipping, weight decay, an average and a loss scale.

    Why: An engine may have each part of a recipe right and two of them in the wrong order.
    Broken by: An engine that clips the gradient of each part of a batch, moves the average with
    each part, or forgets the loss scale of {subject} where gradients are accumulated.
    Fix: Leave out one part of the recipe of the example after the other, until the engine agrees.
    """
    recipe = combined_recipe(trial, combination)
    for plan in plans(trial):
        # Natively, the order and the masks that an engine draws are not known.
        own = replace(recipe, shuffle=plan.parity)
        model = combined_model(trial, combination, *((Dropout(0.3),) if plan.parity else ()))
        if has(trial, *SCALE.needs):
            scale = to_convention(_convention(trial, combination), SCALE)
            own = replace(own, loss_scale=scale)
        samples = combined_samples(trial, model, own.loss)
        training = TrainingCase(model, start(trial, model), samples, own, plan)
        compare_updates(trial, training, sum(map(len, training.updates())))
