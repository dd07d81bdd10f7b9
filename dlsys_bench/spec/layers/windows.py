"""Validation and arithmetic that layers share: images, sequences, windows and strides."""

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


def require_sequence(kind: str, shape: Shape) -> tuple[int, int]:
    """Return the shape as (positions, channels). Raises SpecError if it is not a sequence's."""
    require(
        len(shape) == 2,
        f"{kind} takes a sequence (positions, channels), but its input is {shape}",
    )
    return shape[0], shape[1]


def as_sizes(value: int | IntPair) -> Shape:
    """Return the sizes along each axis of a sequence (an int) or of an image (a pair)."""
    return (value,) if isinstance(value, int) else value


def int_pair(where: str, name: str, value: object) -> IntPair:
    """Return an int, or a pair of ints, as a pair. Raises SpecError unless both are at least 1."""
    pair = (value, value) if isinstance(value, int) else value
    valid = (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in pair)
    )
    message = f"{name} is {value!r}; expected an integer of at least 1, or two (height, width)"
    require(valid, f"{where}: {message}")
    assert isinstance(pair, list | tuple)
    return pair[0], pair[1]


def window_counts(
    kind: str, window_name: str, shape: Shape, window: Shape, strides: Shape
) -> Shape:
    """Return the number of windows inside an image or a sequence, along each axis of positions.

    Raises SpecError if the window is larger than the input.
    """
    sizes = shape[:-1]
    require(
        all(span <= size for span, size in zip(window, sizes, strict=True)),
        f"{kind}: the {window_name} {by(window)} is larger than its input {by(shape)}",
    )
    return tuple(
        (size - span) // stride + 1
        for size, span, stride in zip(sizes, window, strides, strict=True)
    )


def by(sizes: Shape) -> str:
    """Return sizes as text, such as "3x3"."""
    return "x".join(map(str, sizes))
