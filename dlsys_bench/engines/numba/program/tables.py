"""The table of a program: its rows, and the networks and recipes that have one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from dlsys_bench.engines.numba.program.functions import SIGMOID, TANH
from dlsys_bench.engines.numba.program.image_tables import (
    covers,
    image_layers,
    is_compiled_on_images,
)
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Shape,
)
from dlsys_bench.spec.losses import (
    CategoricalCrossEntropy,
    HalfMeanSquaredError,
    Loss,
    MeanSquaredError,
    SparseCategoricalCrossEntropy,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

INPUT, FEATURES, DENSE, ACTIVATION, BATCH_NORM, DROPOUT = range(6)
"""The kinds of rows. The first row gathers the input, or has what the layers of images computed."""

ROW = np.dtype(
    [
        ("kind", np.int64),
        ("inputs", np.int64),
        ("units", np.int64),
        # Where the input and the output begin in the values, and the gradient in the output in the
        # gradients; in units, which times the most samples is a place in memory.
        ("x", np.int64),
        ("y", np.int64),
        ("d", np.int64),
        # Where the kernel and the bias, or gamma and beta, begin in the parameters; -1 for no bias.
        ("first", np.int64),
        ("second", np.int64),
        # Where the moving mean begins in the state. The moving variance follows it.
        ("state", np.int64),
        # Where the statistics of batch norm, or the masks of a dropout, begin; in units.
        ("place", np.int64),
        ("unbiased", np.int64),
        # Epsilon, or the rate of a dropout.
        ("number", np.float64),
        ("decay", np.float64),
        # The slope below zero of the leaky_relu that follows; 1 for none.
        ("slope", np.float64),
        # The function of an activation, which has a slope of its own.
        ("function", np.int64),
        # The number of units in a block of the output, and whether dx is wanted.
        ("block", np.int64),
        ("wants_dx", np.int64),
    ]
)
"""A layer. What a layer does not have is 0."""

SLOPES = {"relu": 0.0, "linear": 1.0}
"""The slope below zero of the activations that are leaky_relu with another slope."""

FUNCTIONS = {"tanh": TANH, "sigmoid": SIGMOID}
"""The activations that are not leaky_relu."""

CROSS_ENTROPY, SQUARED_ERROR, HALF_SQUARED_ERROR = range(3)

LOSSES: dict[type[Loss], int] = {
    CategoricalCrossEntropy: CROSS_ENTROPY,
    SparseCategoricalCrossEntropy: CROSS_ENTROPY,
    MeanSquaredError: SQUARED_ERROR,
    HalfMeanSquaredError: HALF_SQUARED_ERROR,
}

KNOWN_OPTIONS = {
    "optimizer",
    "batch_size",
    "epochs",
    "steps",
    "loss",
    "shuffle",
    "scaling",
    "validation_split",
    "split",
    "evaluate",
    "moving_decay",
    "schedule",
    "batch_sizes",
    "samples",
}
"""The options of a recipe that a program implements, or that it does not see."""


def missing_layer(model: Model) -> str | None:
    """Return the name of the first layer without a compiled form, or None."""
    images = image_layers(model)
    for row in model.table:
        if not _is_compiled(row.layer, row.shape, row.place < images):
            return row.name
    if model.connections is not None or model.input_dtype != "float":
        return model.table[0].name
    last = model.layers[-1]
    return None if isinstance(last, Dense) else model.table[-1].name


def _is_compiled(layer: Layer, shape: Shape, of_images: bool) -> bool:
    if type(layer) is Activation:
        return layer.function in (*SLOPES, *FUNCTIONS, "leaky_relu")
    if of_images:
        return is_compiled_on_images(layer)
    if type(layer) is Flatten or covers(layer, shape):
        return True
    flat = len(shape) == 1 or shape[:-1] == (1, 1)
    return flat and type(layer) in (Dense, BatchNorm, Dropout)


def missing_option(recipe: Recipe) -> str | None:
    """Return the name of the first option without a compiled form, or None."""
    if type(recipe.loss) not in LOSSES or recipe.loss != type(recipe.loss)():
        return "loss"
    if recipe.optimizer.decay is not None:
        return "decay"
    return next(
        (
            option.name
            for option in fields(recipe)
            if option.name not in KNOWN_OPTIONS and getattr(recipe, option.name) != option.default
        ),
        None,
    )


def block_of(units: int) -> int:
    """Return the number of units of a block: a multiple of a cache line if there are many, so that
    two threads rarely write the same one."""
    count = 1 << max(min(8, units // 48).bit_length() - 1, 0)
    return units if count == 1 else units // count // 16 * 16


def row(**values: Any) -> Any:
    """Return a row with these values."""
    found = np.zeros((), ROW)
    found["slope"] = 1.0
    for name, value in values.items():
        found[name] = value
    return found
