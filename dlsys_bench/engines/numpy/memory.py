"""Memory for arrays that loops go over in vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.spec.layers import Shape

LINE = 64
"""Bytes of a cache line, and of the widest vectors. Those of memory that starts elsewhere lie
across two lines each, and numpy's own starts at a multiple of 16: LeNet-5's convolutions took up to
1.8 times as long there."""


def empty(shape: Shape, dtype: Any) -> NDArray[Any]:
    """Uninitialised, at the start of a cache line."""
    bytes_ = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(bytes_ + LINE, np.uint8)
    first = -memory.ctypes.data % LINE
    found: NDArray[Any] = memory[first : first + bytes_].view(dtype).reshape(shape)
    return found


def zeros(shape: Shape, dtype: Any) -> NDArray[Any]:
    """The same, all zero."""
    found = empty(shape, dtype)
    found[...] = 0
    return found
