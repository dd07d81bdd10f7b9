"""The compiler of the loops in this package.

Each loop passes once over memory, runs without the interpreter's lock (GIL), and takes contiguous
arrays. In the shapes, G stands for replicas times channels, and M for all values of a channel.

Two habits keep the loops in vector instructions. Constants are converted to the dtype of the
arrays, since a Python float would widen a single-precision loop to double precision. And an inner
loop runs over a row that was sliced before, with an index from zero: numba must assume that a
computed index may be negative, and checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function at its first call and cache it on disk. Sums may be reordered, so that
    they are computed in vectors; NaN and infinity are still handled as the standard says."""
    fast = {"contract", "reassoc", "arcp", "nsz"}
    compiled: F = numba.njit(function, nogil=True, cache=True, error_model="numpy", fastmath=fast)
    return compiled
