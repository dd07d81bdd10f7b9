"""Arrays whose last axis is a whole number of vectors, so that a loop over it has no remainder."""

from __future__ import annotations

from typing import Any

from numpy import ascontiguousarray

from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array


def padded(rule: LayerRule[Any], name: str, x: Array) -> Array:
    """Return x (..., M) as a contiguous array whose last axis is filled up with zeros to a multiple
    of LANES: x itself if it is one, or else the buffer of a rule with this name."""
    used = x.shape[-1]
    length = -(-used // LANES) * LANES
    if length == used:
        return ascontiguousarray(x)
    y = rule.buffer(name, (*x.shape[:-1], length), x.dtype)
    y[..., :used] = x
    y[..., used:] = 0
    return y
