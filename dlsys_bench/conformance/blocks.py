"""The block of an array in which values are wrong, in the terms of its axes.

A fault of a large tensor is often one of a range: the rows beyond the 640th, the channels beyond
the 64th. A finding that names the range points to the size at which an engine changes its method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlsys_bench.conformance.finding import Fault, broken, close

BATCH_AXES = {
    1: ("samples",),
    2: ("samples", "units"),
    3: ("samples", "positions", "channels"),
    4: ("samples", "rows", "columns", "channels"),
}
"""The names of the axes of x, of targets and of the outputs of a layer, by their number."""

TENSOR_AXES = {
    1: ("entries",),
    2: ("rows", "columns"),
    3: ("window places", "input channels", "output channels"),
    4: ("window rows", "window columns", "input channels", "output channels"),
}
"""The names of the axes of a tensor of a model, by their number."""

Bounds = tuple[int, int]
"""The first and the last index of a range."""


def describe_block(shape: Sequence[int], bounds: Sequence[Bounds], axes: Sequence[str]) -> str:
    """Return a block as text, such as "rows 640 to 783".

    Axes along which the block covers the array are left out, so the text is empty for the whole
    array.
    """
    parts = [
        f"{axis} {first} to {last}"
        for size, (first, last), axis in zip(shape, bounds, axes, strict=True)
        if (first, last) != (0, size - 1)
    ]
    return ", ".join(parts)


def bounds_of(wrong: NDArray[np.bool_]) -> list[Bounds]:
    """Return the smallest block that contains all wrong entries, of which there is at least one."""
    places = np.argwhere(wrong)
    return list(zip(places.min(axis=0).tolist(), places.max(axis=0).tolist(), strict=True))


def close_in_blocks(
    what: str,
    actual: ArrayLike,
    expected: ArrayLike,
    allowed: float,
    axes: Sequence[str],
    **where: Any,
) -> None:
    """Compare two arrays as `close` does, and name the block in which they differ."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape == expected.shape and actual.ndim == len(axes):
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(actual - expected) <= allowed)
        if wrong.any():
            block = describe_block(actual.shape, bounds_of(wrong), axes)
            what = f"{block} of {what}" if block else what
    close(what, actual, expected, allowed, **where)


def finite_in_blocks(
    what: str, actual: NDArray[Any], axes: Sequence[str], *, tensor: str | None = None
) -> None:
    """Raise BrokenError with the block in which values are infinite or NaN, if there are any."""
    wrong = ~np.isfinite(actual)
    if wrong.any():
        block = describe_block(actual.shape, bounds_of(wrong), axes)
        what = f"{block} of {what}" if block else what
        value, layer = f"{actual[wrong][0]}", tensor and tensor.partition(".")[0]
        where = {"layer": layer, "tensor": tensor}
        raise broken(Fault.NOT_FINITE, what, actual=value, expected="finite values", **where)


def failing_range(size: int, fails: Callable[[slice], bool]) -> Bounds:
    """Return the smallest range outside of which nothing fails, by bisection.

    `fails` states for a range whether a fault lies in it, and it is true for the whole of `size`.
    """
    # A prefix fails from the first fault on, and a suffix until the last.
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(slice(0, middle + 1)) else (middle + 1, high)
    first, high = low, size - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fails(slice(middle, size)) else (low, middle - 1)
    return first, low
