"""The distance of a forward pass from points at which a layer has no derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlsys_bench.engines.inputs import input_arrays
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import FUNCTIONS, Activation, MaxPool
from dlsys_bench.spec.model import Model


def _from_zero(layer: Activation, x: Array) -> Array:
    """Return the distance of each input of an activation from a kink at zero."""
    return np.abs(x) if FUNCTIONS[layer.function].kink else np.empty(0)


def _from_ties(layer: MaxPool, x: Array) -> Array:
    """Return the difference between the two largest values of each window."""
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.pool_size, axis=(1, 2))
    height, width = layer.pool_size
    strided = windows[:, :: layer.steps[0], :: layer.steps[1]].reshape(-1, height * width)
    if height * width < 2:
        return np.empty(0)
    return np.diff(np.sort(strided, axis=1)[:, -2:], axis=1)


GAPS: dict[str, Callable[[Any, Array], Array]] = {
    "activation": _from_zero,
    "max_pool": _from_ties,
}
"""For each kind of layer that has kinks, the distances of an input (N, ...) from them."""


def kink_distance(model: Model, x: Array, outputs: list[Array]) -> float:
    """Return how far a pass is from a kink: a relu at zero, or equal values in a max pool.

    `outputs` are the outputs of every layer for x. Exact zeros and exactly equal values do not
    count: they come from units that are dropped or dead, and a small change of the weights leaves
    them so.
    """
    nearest, values = np.inf, [*input_arrays(model, x, np.float64), *outputs]
    for row in model.table:
        if row.layer.kind in GAPS:
            gaps = GAPS[row.layer.kind](row.layer, values[row.sources[0]])
            nearest = min(nearest, float(gaps[gaps > 0].min(initial=np.inf)))
    return nearest
