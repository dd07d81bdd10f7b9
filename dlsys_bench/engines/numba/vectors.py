"""Arrays whose last axis is a whole number of vectors, so that a loop over it has no remainder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Shape


def padded(memory: Callable[[Shape, Any], NDArray[Any]], x: Array) -> Array:
    """Return x (..., M) as a contiguous array whose last axis is filled up with zeros to a multiple
    of LANES: x itself if it is one, or else the memory for a shape and a dtype."""
    used = x.shape[-1]
    length = -(-used // LANES) * LANES
    if length == used:
        return np.ascontiguousarray(x)
    y = memory((*x.shape[:-1], length), x.dtype)
    y[..., :used] = x
    y[..., used:] = 0
    return y
