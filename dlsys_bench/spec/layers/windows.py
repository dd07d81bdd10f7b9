"""Validation and arithmetic that convolution and pooling share: images, windows and strides."""

from __future__ import annotations

from dlsys_bench.spec.layers.base import Shape
from dlsys_bench.spec.record import require

IntPair = tuple[int, int]


def require_image(kind: str, shape: Shape) -> tuple[int, int, int]:
    """Return the shape as (height, width, channels). Raises SpecError if it is not an image's."""
    require(
        len(shape) == 3,
        f"{kind} takes an image (height, width, channels), but its input is {shape}: "
        "put it before flatten",
    )
    return shape[0], shape[1], shape[2]


def int_pair(where: str, name: str, value: object) -> IntPair:
    """Return an int, or a pair of ints, as a pair. Raises SpecError unless both are at least 1."""
    pair = (value, value) if isinstance(value, int) else value
    valid = (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in pair)
    )
    message = f"{name} is {value!r}; it takes a whole number from 1, or two (height, width)"
    require(valid, f"{where}: {message}")
    assert isinstance(pair, list | tuple)
    return pair[0], pair[1]


def window_counts(
    kind: str, window_name: str, shape: Shape, window: IntPair, strides: IntPair
) -> IntPair:
    """Return the number of windows inside an image, by rows and columns.

    Raises SpecError if the window is larger than the image.
    """
    height, width, channels = require_image(kind, shape)
    require(
        window[0] <= height and window[1] <= width,
        f"{kind}: the {window_name} {window[0]}x{window[1]} is larger than its input "
        f"{height}x{width}x{channels}",
    )
    return (height - window[0]) // strides[0] + 1, (width - window[1]) // strides[1] + 1
