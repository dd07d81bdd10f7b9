"""Recipes that several studies of image classification share."""

from __future__ import annotations

from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp


def falling(batch_size: int, steps: int, evaluate: int | None) -> Recipe:
    """Return SGD with momentum for a number of steps, in which the learning rate falls from 0.1 to
    0.0001."""
    return Recipe(
        SGD(0.1, momentum=0.9),
        batch_size=batch_size,
        epochs=1000,
        steps=steps,
        evaluate=evaluate,
        moving_decay=0.9,
        schedule=LearningRateRamp(0.1, 0.0001, steps, "difference"),
    )


TIERS = {"quick": falling(64, 300, 2000), "full": falling(128, 10_000, None)}
"""The tiers of small networks on images of 28 x 28."""
