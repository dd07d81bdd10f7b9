"""The layers on a block of their units, forward and backward.

x and y are (N, units), and `here` is the first unit of the block and the one after its last. Every
function fills its block and nothing else, so that several threads may work on the blocks of one
layer. A leaky_relu, of which relu and linear are cases, is computed with the layer before it; its
derivative follows from the sign of its output.

The inner loops have few arrays. The compiler checks at run time that arrays do not overlap before
it uses vector instructions, and gives up on many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.functions import TANH, activate
from dlsys_bench.engines.numba.program.lanes import LANES, fill, lane, load, store
from dlsys_bench.engines.numba.program.products import AS_IS, TRANSPOSED, multiply
from dlsys_bench.engines.plan import Array

UnitBlock = tuple[int, int]
"""The first unit of a block, and the one after its last."""


@inner_kernel
def dense(x: Array, w: Array, bias: Array, slope: float, here: UnitBlock, y: Array) -> None:
    """Compute y = leaky(x w + bias), with the kernel w (inputs, units). An empty bias is none."""
    (n_, inputs), units, (first, end) = x.shape, y.shape[1], here
    sizes = n_, end - first, inputs, inputs, units, units
    from_here = y.reshape(-1)[first:]
    multiply(x.reshape(-1), w.reshape(-1)[first:], from_here, (AS_IS, AS_IS), sizes)
    if bias.size:
        own = bias[first:end]
        for n in range(n_):
            out = y[n, first:end]
            for u in range(out.size):
                out[u] += own[u]
    if slope < 1:
        leaky(y, slope, here, y)


@inner_kernel
def d_kernel(x: Array, dy: Array, here: UnitBlock, dw: Array) -> None:
    """Compute the gradient of the rows `here` of a kernel, dw = x^T dy."""
    (n_, inputs), units, (first, end) = x.shape, dy.shape[1], here
    sizes = end - first, units, n_, inputs, units, units
    multiply(x.reshape(-1)[first:], dy.reshape(-1), dw, (TRANSPOSED, AS_IS), sizes)


@inner_kernel
def d_dense(dy: Array, w: Array, here: UnitBlock, dx: Array) -> None:
    """Compute dx = dy w^T for the inputs `here`."""
    (n_, units), inputs, (first, end) = dy.shape, dx.shape[1], here
    sizes = n_, end - first, units, units, units, inputs
    from_here = dx.reshape(-1)[first:]
    multiply(dy.reshape(-1), w.reshape(-1)[first * units :], from_here, (AS_IS, TRANSPOSED), sizes)


@inner_kernel
def d_bias(dy: Array, d: Array) -> None:
    """Compute the gradient of a bias, the sum of dy over the samples."""
    _add_up(dy, (0, d.size), d)


@inner_kernel
def _add_up(x: Array, here: UnitBlock, sums: Array) -> None:
    """Compute the sums of x over the samples, of a block of units."""
    first, end = here
    sums[:] = 0
    for n in range(x.shape[0]):
        own = x[n, first:end]
        for u in range(own.size):
            sums[u] += own[u]


@inner_kernel
def leaky(x: Array, slope: float, here: UnitBlock, y: Array) -> None:
    """Multiply x by the slope where it is not above zero, as y."""
    first, end = here
    times = x.dtype.type(slope)
    for n in range(x.shape[0]):
        own, out = x[n, first:end], y[n, first:end]
        for u in range(own.size):
            out[u] = own[u] if own[u] > 0 else own[u] * times


@inner_kernel
def d_leaky(y: Array, slope: float, here: UnitBlock, dy: Array) -> None:
    """Multiply dy by the slope where y is not above zero."""
    first, end = here
    times = dy.dtype.type(slope)
    for n in range(y.shape[0]):
        own, d = y[n, first:end], dy[n, first:end]
        for u in range(own.size):
            d[u] = d[u] if own[u] > 0 else d[u] * times


@inner_kernel
def activation(x: Array, function: int, here: UnitBlock, y: Array) -> None:
    """Compute tanh or sigmoid of x, as y."""
    (first, end), slope = here, x.dtype.type(1)
    for n in range(x.shape[0]):
        own, out = x[n, first:end], y[n, first:end]
        for u in range(0, own.size - LANES + 1, LANES):
            store(out, u, activate(function, load(own, u), slope))
        for u in range(own.size // LANES * LANES, own.size):
            out[u] = lane(activate(function, fill(own[u]), slope))


@inner_kernel
def d_activation(y: Array, function: int, here: UnitBlock, dy: Array) -> None:
    """Overwrite dy with dx."""
    first, end = here
    one = y.dtype.type(1)
    for n in range(y.shape[0]):
        own, d = y[n, first:end], dy[n, first:end]
        if function == TANH:
            for u in range(own.size):
                d[u] *= one - own[u] * own[u]
        else:
            for u in range(own.size):
                d[u] *= own[u] * (one - own[u])


@inner_kernel
def dropout(
    x: Array, stays: NDArray[np.bool_], scale: float, here: UnitBlock, shards: int, y: Array
) -> None:
    """Multiply x by the scale where it stays and by 0 elsewhere, as y. `stays` is flat and has, of
    each shard of the samples, (units, samples).

    The backward pass is the same for dy.
    """
    (first, end), (n_, units) = here, x.shape
    times, zero = x.dtype.type(scale), x.dtype.type(0)
    for shard in range(shards):
        a, b = n_ * shard // shards, n_ * (shard + 1) // shards
        for n in range(a, b):
            for u in range(first, end):
                stay = stays[units * a + u * (b - a) + n - a]
                y[n, u] = x[n, u] * (times if stay else zero)


@inner_kernel
def batch_norm(
    x: Array,
    affine: tuple[Array, Array],
    numbers: tuple[float, float],
    here: UnitBlock,
    moments: tuple[Array, Array, Array],
    results: tuple[Array, Array],
) -> None:
    """Compute (x - mean) / sqrt(variance + epsilon) and y = leaky(gamma of it + beta), by the
    moments of the batch. The first result may overwrite x.

    The numbers are epsilon and the slope. The moments get the mean, the variance and
    1 / sqrt(variance + epsilon). They, gamma and beta are those of the block.
    """
    (normal, y), (scale, shift), (mean, variance, inverse) = results, affine, moments
    n_, (first, end) = x.shape[0], here
    epsilon, slope = x.dtype.type(numbers[0]), x.dtype.type(numbers[1])
    share, one = x.dtype.type(1.0 / n_), x.dtype.type(1)
    variance[:] = 0
    _add_up(x, here, mean)
    for u in range(mean.size):
        mean[u] *= share
    for n in range(n_):
        given, own = x[n, first:end], normal[n, first:end]
        for u in range(mean.size):
            own[u] = given[u] - mean[u]
        for u in range(mean.size):
            variance[u] += own[u] * own[u]
    for u in range(mean.size):
        variance[u] *= share
        inverse[u] = one / np.sqrt(variance[u] + epsilon)
    for n in range(n_):
        own, out = normal[n, first:end], y[n, first:end]
        for u in range(mean.size):
            own[u] *= inverse[u]
        for u in range(mean.size):
            value = own[u] * scale[u] + shift[u]
            out[u] = value if value > 0 else value * slope


@inner_kernel
def d_batch_norm(
    normal: Array,
    factors: tuple[Array, Array],
    here: UnitBlock,
    sums: tuple[Array, Array, Array, Array],
    dy: Array,
) -> None:
    """Compute the gradients in gamma and beta, and overwrite dy with that in x.

    The factors are gamma and 1 / sqrt(variance + epsilon). The sums get the two gradients, and
    those divided by the number of samples. All are of the block. The numpy engine's batch norm
    derives the formula.
    """
    (scale, times), (d_gamma, d_beta, slope, less) = factors, sums
    n_, (first, end) = dy.shape[0], here
    share = dy.dtype.type(1.0 / n_)
    d_gamma[:] = 0
    d_beta[:] = 0
    for n in range(n_):
        own, d = normal[n, first:end], dy[n, first:end]
        for u in range(d.size):
            d_gamma[u] += d[u] * own[u]
            d_beta[u] += d[u]
    for u in range(d_gamma.size):
        slope[u] = share * d_gamma[u]
        less[u] = share * d_beta[u]
    for n in range(n_):
        own, d = normal[n, first:end], dy[n, first:end]
        for u in range(d.size):
            d[u] -= own[u] * slope[u] + less[u]
        for u in range(d.size):
            d[u] *= scale[u] * times[u]


@inner_kernel
def move(
    moving: tuple[Array, Array],
    moments: tuple[Array, Array],
    samples: int,
    decay: float,
    unbiased: bool,
) -> None:
    """Move the moving mean and variance towards those of a batch."""
    kind = moving[0].dtype.type
    keep, new = kind(decay), kind(1.0 - decay)
    factor = kind(samples / max(samples - 1, 1) if unbiased else 1.0)
    for u in range(moving[0].size):
        moving[0][u] = keep * moving[0][u] + new * moments[0][u]
        moving[1][u] = keep * moving[1][u] + new * (factor * moments[1][u])
