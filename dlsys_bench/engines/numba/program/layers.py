"""The layers on a block of their units, forward and backward.

x and y are (N, units), and `here` is the first unit of the block and the one after its last. Every
function fills its block and nothing else, so that several threads may work on the blocks of one
layer. A leaky_relu, of which relu and linear are cases, is computed with the layer before it; its
derivative follows from the sign of its output.

A block is computed vector by vector of its units. The last vector is read to its end, beyond the
block, and only the values of the block are written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import call, inner_kernel
from dlsys_bench.engines.numba.program.functions import activate, d_activate
from dlsys_bench.engines.numba.program.lanes import LANES, choose, fill, load, store_some
from dlsys_bench.engines.numba.program.products import transpose
from dlsys_bench.engines.plan import Array

UnitBlock = tuple[int, int]
"""The first unit of a block, and the one after its last."""


@inner_kernel
def dense(
    product: int, x: Array, w: Array, bias: Array, slope: float, here: UnitBlock, y: Array
) -> None:
    """Compute y = leaky(x w + bias), with the kernel w (inputs, units). An empty bias is none.

    The product of dense layers is the address of `products.multiply`.
    """
    (n_, inputs), units, (first, end) = x.shape, y.shape[1], here
    places, sizes = ((0, first, first), (inputs, 1, units, units)), (n_, end - first, inputs)
    own, flat = bias[first : end if bias.size else first], (x.reshape(-1), y.reshape(-1))
    call(product, (flat[0], w, own, flat[1], sizes, places, y.dtype.type(slope)))


@inner_kernel
def d_kernel(product: int, x: Array, dy: Array, here: UnitBlock, dw: Array) -> None:
    """Compute the gradient of the rows `here` of a kernel, dw = x^T dy."""
    (n_, inputs), units, (first, end) = x.shape, dy.shape[1], here
    places, sizes = ((first, 0, 0), (1, inputs, units, units)), (end - first, units, n_)
    flat = x.reshape(-1), dy.reshape(-1)
    call(product, (*flat, dw[:0], dw, sizes, places, dw.dtype.type(1)))


@inner_kernel
def d_dense(product: int, dy: Array, w: Array, here: UnitBlock, memory: Array, dx: Array) -> None:
    """Compute dx = dy w^T for the inputs `here`. The memory has room for these rows of w, both
    sides filled up to whole vectors."""
    (n_, units), inputs, (first, end) = dy.shape, dx.shape[1], here
    wide = -(-(end - first) // LANES) * LANES
    transpose(w, first * units, (end - first, units), units, memory, wide)
    places, sizes = ((0, 0, first), (units, 1, wide, inputs)), (n_, end - first, units)
    flat = dy.reshape(-1), memory, memory[:0], dx.reshape(-1)
    call(product, (*flat, sizes, places, dx.dtype.type(1)))


@inner_kernel
def d_bias(dy: Array, d: Array) -> None:
    """Compute the gradient of a bias, the sum of dy over the samples."""
    for u in range(0, d.size, LANES):
        store_some(d, u, _column_sum(dy, u), d.size - u)


@inner_kernel
def _column_sum(x: Array, u: int) -> Any:
    """Return the sums over the samples of x, of a vector of units."""
    (n_, units), flat, zero = x.shape, x.reshape(-1), fill(x.dtype.type(0))
    even, odd = zero, zero
    # Two sums in turn, as each has to wait for the one before.
    for n in range(0, n_ - 1, 2):
        even = even + load(flat, n * units + u)
        odd = odd + load(flat, (n + 1) * units + u)
    if n_ % 2:
        even = even + load(flat, (n_ - 1) * units + u)
    return even + odd


@inner_kernel
def activation(x: Array, function: int, slope: float, here: UnitBlock, y: Array) -> None:
    """Compute the function of x, as y. The slope is that of a leaky_relu."""
    (first, end), (n_, units), below = here, x.shape, x.dtype.type(slope)
    given, out = x.reshape(-1), y.reshape(-1)
    for n in range(n_):
        for u in range(first, end, LANES):
            at = n * units + u
            store_some(out, at, activate(function, load(given, at), below), end - u)


@inner_kernel
def d_activation(y: Array, function: int, slope: float, here: UnitBlock, dy: Array) -> None:
    """Overwrite dy with dx."""
    (first, end), (n_, units), below = here, y.shape, y.dtype.type(slope)
    own, d = y.reshape(-1), dy.reshape(-1)
    for n in range(n_):
        for u in range(first, end, LANES):
            at = n * units + u
            found = d_activate(function, load(own, at), load(d, at), below)
            store_some(d, at, found, end - u)


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
    y: Array,
) -> None:
    """Compute y = leaky(gamma (x - mean) / sqrt(variance + epsilon) + beta), by the moments of the
    batch.

    The numbers are epsilon and the slope. The moments get the mean, the variance and
    1 / sqrt(variance + epsilon). They, gamma and beta are those of the block.
    """
    (gamma, beta), (mean, variance, inverse) = affine, moments
    (n_, units), (first, end), kind = x.shape, here, x.dtype.type
    flat, out = x.reshape(-1), y.reshape(-1)
    epsilon, slope, share, one = kind(numbers[0]), kind(numbers[1]), kind(1.0 / n_), kind(1)
    for u in range(first, end, LANES):
        middle, squares = _column_sum(x, u) * share, fill(kind(0))
        for n in range(n_):
            off = load(flat, n * units + u) - middle
            squares = squares + off * off
        store_some(mean, u - first, middle, end - u)
        store_some(variance, u - first, squares * share, end - u)
    for k in range(inverse.size):
        inverse[k] = one / np.sqrt(variance[k] + epsilon)
    for u in range(first, end, LANES):
        k = u - first
        middle, times, shift = load(mean, k), load(gamma, k) * load(inverse, k), load(beta, k)
        for n in range(n_):
            value = (load(flat, n * units + u) - middle) * times + shift
            store_some(out, n * units + u, choose(value, value, value * slope), end - u)


@inner_kernel
def d_batch_norm(
    x: Array,
    affine: tuple[Array, Array, float],
    moments: tuple[Array, Array],
    here: UnitBlock,
    sums: tuple[Array, Array],
    dy: Array,
) -> None:
    """Compute the gradients in gamma and beta, as the sums, and overwrite dy with that in x.

    The moments are the mean and 1 / sqrt(variance + epsilon), and the third of `affine` the slope.
    All are of the block. The numpy engine's batch norm derives the formula.
    """
    (gamma, beta, slope), (mean, inverse), (d_gamma, d_beta) = affine, moments, sums
    (n_, units), (first, end), kind = x.shape, here, x.dtype.type
    flat, d, below, share = x.reshape(-1), dy.reshape(-1), kind(slope), kind(1.0 / n_)
    for u in range(first, end, LANES):
        k = u - first
        middle, scale, shift = load(mean, k), load(inverse, k), load(beta, k)
        times = load(gamma, k) * scale
        every, along = fill(kind(0)), fill(kind(0))
        for n in range(n_):
            at = n * units + u
            off, own = load(flat, at) - middle, load(d, at)
            own = choose(off * times + shift, own, own * below)
            store_some(d, at, own, end - u)
            every = every + own
            along = along + own * off
        store_some(d_gamma, k, along * scale, end - u)
        store_some(d_beta, k, every, end - u)
        along, less = times * scale * scale * along * share, times * every * share
        for n in range(n_):
            at = n * units + u
            off = load(flat, at) - middle
            store_some(d, at, times * load(d, at) - along * off - less, end - u)


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
