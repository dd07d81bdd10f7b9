"""The optimisers on a part of the parameters, by the kernels of the optimisers' own module.

Each takes parameters p (n,), their gradient, the two arrays (n,) of the state of the optimiser, its
rate (1,) and its numbers (4,), and returns 0. A program calls one of them by its address.
"""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.numba.kernel import expression, inlined, inner_kernel
from dlsys_bench.engines.numba.optimizers import (
    ADAM,
    DESCENT,
    MOMENTUM,
    RMSPROP,
    adam,
    rmsprop,
    sgd,
)
from dlsys_bench.engines.plan import Array

_sgd, _adam, _rmsprop = inlined(sgd), inlined(adam), inlined(rmsprop)


@expression
def _row(x: Array) -> Array:
    """Return x as one network of several, (1, n)."""
    return x.reshape((1, -1))


@inner_kernel
def update_by_descent(
    p: Array, g: Array, first: Array, second: Array, rate: Array, numbers: Array
) -> int:
    """Update by gradient descent without a velocity."""
    for i in range(p.size):
        p[i] -= rate[0] * g[i]
    return 0


@inner_kernel
def update_by_momentum(
    p: Array, g: Array, first: Array, second: Array, rate: Array, numbers: Array
) -> int:
    """Update by gradient descent with a velocity."""
    by_rate, nesterov = numbers[2] > 0, numbers[3] > 0
    _sgd(_row(p), _row(g), _row(first), rate, numbers[0], numbers[1], by_rate, nesterov)
    return 0


@inner_kernel
def update_by_adam(
    p: Array, g: Array, first: Array, second: Array, rate: Array, numbers: Array
) -> int:
    """Update by Adam."""
    options = numbers[0], numbers[1], numbers[2], numbers[3]
    _adam(_row(p), _row(g), _row(first), _row(second), rate, options)
    return 0


@inner_kernel
def update_by_rmsprop(
    p: Array, g: Array, first: Array, second: Array, rate: Array, numbers: Array
) -> int:
    """Update by RMSprop."""
    _rmsprop(_row(p), _row(g), _row(first), rate, numbers[0], numbers[1], numbers[2] > 0)
    return 0


UPDATES: dict[int, Any] = {
    DESCENT: update_by_descent,
    MOMENTUM: update_by_momentum,
    ADAM: update_by_adam,
    RMSPROP: update_by_rmsprop,
}
"""The update of each optimiser."""
