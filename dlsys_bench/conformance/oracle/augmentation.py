"""Every augmentation by its definition, one sample at a time, from what a plan draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.oracle.forward import definition
from dlsys_bench.data import join_inputs, split_inputs
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec import augmentation as spec
from dlsys_bench.spec.recipe import Recipe


def _shift(record: spec.Shift, image: Array, drawn: NDArray[Any]) -> Array:
    height, width = image.shape[:2]
    found = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            above, left = row - int(drawn[0]), column - int(drawn[1])
            if record.fill == "edge":
                above, left = min(max(above, 0), height - 1), min(max(left, 0), width - 1)
            if 0 <= above < height and 0 <= left < width:
                found[row, column] = image[above, left]
    return found


def _flip(record: spec.HorizontalFlip, image: Array, drawn: NDArray[Any]) -> Array:
    return np.flip(image, axis=1) if drawn else image


def _add_noise(record: spec.InputNoise, values: Array, drawn: NDArray[Any]) -> Array:
    return values + record.stddev * drawn.astype(np.float64)


AUGMENTATIONS: Mapping[str, Callable[[Any, Array, NDArray[Any]], Array]] = {
    "shift": _shift,
    "horizontal_flip": _flip,
    "input_noise": _add_noise,
}


def augmented(x: NDArray[Any], recipe: Recipe, plan: Plan, epoch: int) -> NDArray[Any]:
    """Return the inputs of an epoch with a plan."""
    arrays = split_inputs(x)
    (first, *_), names = arrays, [record.input for record in recipe.augment]
    shapes = [arrays[name or first].shape for name in names]
    every = plan.augmentations(recipe.augment, shapes, epoch)
    for record, draws in zip(recipe.augment, every, strict=True):
        change, name = definition(AUGMENTATIONS, record), record.input or first
        samples = zip(np.asarray(arrays[name], np.float64), draws, strict=True)
        arrays[name] = np.stack([change(record, values, drawn) for values, drawn in samples])
    return arrays[first] if x.dtype.names is None else join_inputs(arrays)
