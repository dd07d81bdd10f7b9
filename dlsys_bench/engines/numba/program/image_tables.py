"""The table of the layers of a program that compute images."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlsys_bench.spec.layers import (
    AveragePool,
    BatchNorm,
    Conv2D,
    Dropout,
    Flatten,
    Layer,
    Shape,
)
from dlsys_bench.spec.model import Model

READ, CONVOLUTION, ACTIVATION, BATCH_NORM, POOL, DROPOUT, WRITE = range(7)
"""The kinds of rows. The first reads the samples, the last writes what the dense layers take."""

IMAGES = np.dtype(
    [
        # Where they begin, in pixels, which times the most samples is a place in memory.
        ("start", np.int64),
        ("channels", np.int64),
        ("height", np.int64),
        ("width", np.int64),
        # The height and the width with the zeros around them, and the first pixel that is not one.
        ("tall", np.int64),
        ("wide", np.int64),
        ("first", np.int64),
    ]
)
"""Images in memory, (chunks, channels, tall, wide, LANES): LANES samples, a chunk, are one vector
at each pixel."""

IMAGE_ROW = np.dtype(
    [
        ("kind", np.int64),
        # The input and the output, in the memory of values, and their gradients.
        ("x", IMAGES),
        ("y", IMAGES),
        ("dx", IMAGES),
        ("dy", IMAGES),
        # The window of a convolution or a pool, and the steps of a pool.
        ("tall", np.int64),
        ("wide", np.int64),
        ("down", np.int64),
        ("across", np.int64),
        # Where the kernel and the bias, or gamma and beta, begin in the parameters; -1 for no bias.
        ("first", np.int64),
        ("second", np.int64),
        # Where the moving mean begins in the state. The moving variance follows it.
        ("state", np.int64),
        # Where the statistics of batch norm begin, or the masks of a dropout.
        ("place", np.int64),
        ("unbiased", np.int64),
        # Epsilon, the rate of a dropout, or the slope of a leaky_relu below zero.
        ("number", np.float64),
        ("decay", np.float64),
        ("function", np.int64),
        ("wants_dx", np.int64),
    ]
)
"""A layer. What a layer does not have is 0. A batch norm has the window of the average pool after
it, if the two are computed together, and otherwise a window of one pixel."""


def image_layers(model: Model) -> int:
    """Return the number of the first layers that compute images: those before the first flatten,
    or before a convolution of one window, which is a dense layer of all pixels."""
    if model.connections is not None or len(model.input_shape) != 3:
        return 0
    for index, (layer, shape) in enumerate(zip(model.layers, model.shapes, strict=False)):
        if isinstance(layer, Flatten) or covers(layer, shape):
            return index
    return len(model.layers)


def covers(layer: Layer, shape: Shape) -> bool:
    """Return whether a layer is a convolution with one window, the whole image."""
    return (
        isinstance(layer, Conv2D)
        and layer.kernel_size == shape[:2]
        and layer.output_shape(shape)[:2] == (1, 1)
        and layer.groups == 1
        and layer.dilation == (1, 1)
    )


def is_compiled_on_images(layer: Layer) -> bool:
    """Return whether a layer on images, not an activation, has a compiled form."""
    if isinstance(layer, Conv2D):
        return layer.strides == layer.dilation == (1, 1) and layer.groups == 1
    return type(layer) in (AveragePool, BatchNorm, Dropout)


def image_row(**values: Any) -> Any:
    """Return a row with these values."""
    found = np.zeros((), IMAGE_ROW)
    for name, value in values.items():
        found[name] = value
    return found


def images(start: int, shape: tuple[int, ...], pads: Any = ((0, 0), (0, 0))) -> Any:
    """Return images (H, W, C) that begin at a place, with zeros around them."""
    (height, width, channels), ((top, bottom), (left, right)) = shape, pads
    wide = left + width + right
    return np.array(
        (start, channels, height, width, top + height + bottom, wide, top * wide + left), IMAGES
    )


def pixels(found: Any) -> int:
    """Return the number of pixels of images, with the zeros around them."""
    return int(found["channels"] * found["tall"] * found["wide"])
