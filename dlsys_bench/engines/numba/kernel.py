"""How a loop is compiled.

Each loop goes once over memory, lets other threads in, and takes arrays in one piece.

G stands for replicas times channels, M for all that belongs to a channel. Numbers come in the dtype
of the arrays: a Python float among single-precision arrays would widen every step of a loop. What
an inner loop walks over is a row of its own with an index from zero: an index that is computed
might be negative, and such a loop does not go in vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile at the first call, once for all processes. Sums may be taken in any order, so that
    they go in vectors; what is no number stays none."""
    fast = {"contract", "reassoc", "arcp", "nsz"}
    compiled: F = numba.njit(function, nogil=True, cache=True, error_model="numpy", fastmath=fast)
    return compiled
