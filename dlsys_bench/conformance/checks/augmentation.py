"""Trainings on augmented inputs, with a plan and natively."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.support import (
    example_loss,
    needed_layers,
    supported,
    trainable,
)
from dlsys_bench.conformance.checks.training import (
    compare_prediction,
    compare_updates,
    plans,
    start,
)
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.spec.augmentation import (
    AUGMENTATIONS,
    Augmentation,
    HorizontalFlip,
    ImageAugmentation,
    InputNoise,
    Shift,
)
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

IMAGES = Model("augmented", (9, 7, 2), (Flatten(), Dense(3)))
VECTORS = Model("augmented", (40,), (Dense(3),))
SEVERAL = Model(
    "augmented",
    inputs=(Input("photo", (5, 4, 2)), Input("features", (5,))),
    layers=(parallel(serial(Flatten(), source="photo"), serial(source="features")), Dense(3)),
)


class AugmentationCase(NamedTuple):
    """Augmentations, and the model whose inputs they change."""

    records: tuple[Augmentation, ...]

    @property
    def model(self) -> Model:
        """A model of named inputs if the augmentations name them, and otherwise of images if they
        take nothing else."""
        if any(record.input for record in self.records):
            return SEVERAL
        return IMAGES if any(isinstance(r, ImageAugmentation) for r in self.records) else VECTORS

    @property
    def requires(self) -> list[str]:
        """The requirements of an engine that is asked about the case."""
        return ["augment", *needed_layers(self.model)]


CASES: Mapping[str, AugmentationCase] = {
    **{
        name: AugmentationCase((example,))
        for record in AUGMENTATIONS.values()
        for name, example in record.examples().items()
    },
    "several": AugmentationCase((Shift(5), HorizontalFlip(), InputNoise(0.3))),
    "inputs": AugmentationCase((InputNoise(0.3, input="features"), Shift(1, input="photo"))),
}
"""Every variant of every augmentation, and all of them in turn, by the name in its checks."""


@check_each("trajectory", CASES, requires=lambda case: case.requires, prefix="augment-")
def augmented(trial: Trial, case: AugmentationCase) -> None:
    """Three epochs on augmented inputs, which the kernel shows value by value, and a prediction of
    inputs as they are.

    Why: An augmentation that differs in one detail trains another network, which is hard to tell
    from a worse seed.
    Broken by: An engine that draws {subject} once for all epochs, wraps pixels around, augments
    what is augmented already, or augments only when it trains with a plan.
    Fix: Take the inputs of each epoch from `engines.augmentation.augment`, with the number of the
    epoch, from the inputs as they are.
    """
    model = trainable(trial, case.model)
    recipe = Recipe(SGD(0.1), batch_size=4, epochs=3, augment=case.records)
    recipe = supported(trial, replace(recipe, loss=example_loss(trial)))
    x = strategies.inputs(model, 7, trial.generator)
    y = strategies.targets(recipe.loss, model.output_shape, 7, trial.generator)
    weights, samples = start(trial, model), Samples(x, y)
    for plan in plans(trial):
        # Natively, an order that an engine draws is not known.
        own = replace(recipe, shuffle=plan.parity)
        compare_updates(trial, TrainingCase(model, weights, samples, own, plan), 6)
        network = trial.engine.build(model, weights)
        train(trial.engine, network, samples, own, plan)
        compare_prediction(trial, network, x, "a training on augmented inputs")
