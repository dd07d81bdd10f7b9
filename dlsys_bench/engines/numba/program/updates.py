"""The optimisers on a part of the parameters, by the kernels of the optimisers' own module."""

from __future__ import annotations

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.optimizers import ADAM, DESCENT, MOMENTUM, adam, rmsprop, sgd
from dlsys_bench.engines.plan import Array


@kernel
def update(
    kind: int, p: Array, g: Array, state: tuple[Array, Array], rate: Array, numbers: Array
) -> None:
    """Update parameters p (n,) by their gradient. The state of the optimiser is two arrays of that
    size, the rate an array of one."""
    if kind == DESCENT:
        for i in range(p.size):
            p[i] -= rate[0] * g[i]
        return
    p, g = p.reshape((1, -1)), g.reshape((1, -1))
    first, second = state[0].reshape((1, -1)), state[1].reshape((1, -1))
    if kind == ADAM:
        options = numbers[0], numbers[1], numbers[2], numbers[3]
        adam(p, g, first, second, rate, options)
    elif kind == MOMENTUM:
        sgd(p, g, first, rate, numbers[0], numbers[1], numbers[2] > 0, numbers[3] > 0)
    else:
        rmsprop(p, g, first, rate, numbers[0], numbers[1], numbers[2] > 0)
