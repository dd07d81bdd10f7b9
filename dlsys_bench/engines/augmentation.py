"""The augmentations of training inputs: what a plan draws for them, and their application."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.inputs import X, join_inputs, split_inputs
from dlsys_bench.spec import augmentation as spec

if TYPE_CHECKING:
    from dlsys_bench.engines.plan import Plan
    from dlsys_bench.spec.recipe import Recipe

Draws = NDArray[Any]
"""The random numbers of one augmentation for N inputs: how far each is shifted (N, 2), whether each
is flipped (N,), or standard normal values of their shape."""


def _draw_shifts(record: spec.Shift, shape: Sequence[int], own: np.random.Generator) -> Draws:
    return own.integers(-record.pixels, record.pixels + 1, (shape[0], 2))


def _draw_flips(
    record: spec.HorizontalFlip, shape: Sequence[int], own: np.random.Generator
) -> Draws:
    return own.random(shape[0]) < record.probability


def _draw_noise(record: spec.InputNoise, shape: Sequence[int], own: np.random.Generator) -> Draws:
    # In single precision, which is enough for noise, it takes half the time and memory.
    return own.standard_normal(tuple(shape), dtype=np.float32)


DRAWS: Mapping[type[spec.Augmentation], Callable[..., Draws]] = {
    spec.Shift: _draw_shifts,
    spec.HorizontalFlip: _draw_flips,
    spec.InputNoise: _draw_noise,
}


def _shift(record: spec.Shift, x: NDArray[Any], draws: Draws) -> NDArray[Any]:
    _, rows, columns, _ = x.shape
    sides = (record.pixels, record.pixels)
    mode: Any = {"zeros": "constant", "edge": "edge"}[record.fill]
    wide = np.pad(x, ((0, 0), sides, sides, (0, 0)), mode=mode)
    # Every place at which a window of the size of the image fits, (N, 2p + 1, 2p + 1, C, H, W).
    windows = np.lib.stride_tricks.sliding_window_view(wide, (rows, columns), axis=(1, 2))
    down, right = draws.T
    found = windows[np.arange(len(x)), record.pixels - down, record.pixels - right]
    return np.ascontiguousarray(np.moveaxis(found, 1, -1))


def _flip(record: spec.HorizontalFlip, x: NDArray[Any], draws: Draws) -> NDArray[Any]:
    return np.where(draws[:, None, None, None], x[:, :, ::-1], x)


def _add_noise(record: spec.InputNoise, x: NDArray[Any], draws: Draws) -> NDArray[Any]:
    noise = draws.astype(x.dtype)
    noise *= record.stddev
    noise += x
    return noise


RULES: Mapping[type[spec.Augmentation], Callable[[Any, NDArray[Any], Draws], NDArray[Any]]] = {
    spec.Shift: _shift,
    spec.HorizontalFlip: _flip,
    spec.InputNoise: _add_noise,
}


def augment(x: NDArray[Any], recipe: Recipe, plan: Plan, epoch: int) -> NDArray[Any]:
    """Return the inputs (N, ...) of an epoch (from 1), in the order of the samples; x itself if the
    recipe has no augmentations. Shape and dtype are those of x, which is not changed; whole numbers
    become floats. Of several inputs, each augmentation changes the one that it names."""
    if not recipe.augment:
        return x
    arrays = split_inputs(x)
    names = [record.input or X for record in recipe.augment]
    shapes = [arrays[name].shape for name in names]
    draws = plan.augmentations(recipe.augment, shapes, epoch)
    for record, name, drawn in zip(recipe.augment, names, draws, strict=True):
        values = arrays[name]
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        arrays[name] = RULES[type(record)](record, values, drawn)
    return arrays[X] if x.dtype.names is None else join_inputs(arrays)
