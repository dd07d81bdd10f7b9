"""Memory that is aligned for vector instructions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.spec.layers import Shape

LINE = 64
"""The bytes of a cache line, and of the widest vectors. numpy aligns its arrays to 16 bytes, where
a vector may lie across two lines: LeNet-5's convolutions took up to 1.8 times as long there."""


VECTOR = 2 * LINE
"""The bytes of the largest vector of compiled code."""


def empty(shape: Shape, dtype: Any) -> NDArray[Any]:
    """Return an uninitialised array that starts at a cache line. A vector that begins at one of its
    values may be read to its end, as there is memory after the array."""
    bytes_ = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(bytes_ + LINE + VECTOR, np.uint8)
    first = -memory.ctypes.data % LINE
    found: NDArray[Any] = memory[first : first + bytes_].view(dtype).reshape(shape)
    return found


def zeros(shape: Shape, dtype: Any) -> NDArray[Any]:
    """Return an array of zeros that starts at a cache line."""
    found = empty(shape, dtype)
    found[...] = 0
    return found
