"""The layers on a chunk of images, forward and backward; `image_convolution` has convolution.

A chunk has LANES samples or, at the end of a batch, fewer; the lanes without a sample have some
finite values, and zero gradients. Every function fills its part of the memory and nothing else, so
that several threads may work on the chunks of one layer. `image_tables` describes rows and images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.functions import activate, d_activate
from dlsys_bench.engines.numba.program.image_memory import Chunk, ChunkMask, row_start
from dlsys_bench.engines.numba.program.lanes import (
    LANES,
    fill,
    keep,
    load,
    load_flags,
    store,
    total,
)
from dlsys_bench.engines.plan import Array


@inner_kernel
def read_samples(row: Any, chunk: Chunk, x: Array, chosen: NDArray[np.intp], values: Array) -> None:
    """Copy the chosen samples (H W C) to a chunk, and zeros to the other lanes."""
    y, zero = row.y, values.dtype.type(0)
    for n in range(LANES):
        sample = x[chosen[min(n, chosen.size - 1)]]
        for c in range(y.channels):
            for i in range(y.height):
                own = values[row_start(y, chunk, c, i) + n :]
                for j in range(y.width):
                    pixel = sample[(i * y.width + j) * y.channels + c]
                    own[j * LANES] = pixel if n < chosen.size else zero


@inner_kernel
def write_features(row: Any, chunk: Chunk, values: Array, features: Array) -> None:
    """Copy the images of a chunk to rows (samples, H W C)."""
    x = row.x
    # The channels of a pixel are neighbours in a row, so a cache line is filled at once.
    for i in range(x.height):
        for j in range(x.width):
            pixel = (i * x.width + j) * x.channels
            for c in range(x.channels):
                own = values[row_start(x, chunk, c, i) + j * LANES :]
                for n in range(chunk[1]):
                    features[n, pixel + c] = own[n]


@inner_kernel
def read_gradients(row: Any, chunk: Chunk, features: Array, gradients: Array) -> None:
    """Copy the gradients in rows (samples, H W C) to a chunk: the reverse of `write_features`."""
    x, zero = row.dx, gradients.dtype.type(0)
    for i in range(x.height):
        for j in range(x.width):
            pixel = (i * x.width + j) * x.channels
            for c in range(x.channels):
                own = gradients[row_start(x, chunk, c, i) + j * LANES :]
                for n in range(LANES):
                    own[n] = features[n, pixel + c] if n < chunk[1] else zero


@inner_kernel
def activation(row: Any, chunk: Chunk, values: Array) -> None:
    """Compute the function of each value."""
    x, y, slope = row.x, row.y, values.dtype.type(row.number)
    for c in range(y.channels):
        for i in range(y.height):
            here, there = row_start(x, chunk, c, i), row_start(y, chunk, c, i)
            for j in range(y.width):
                found = activate(row.function, load(values, here + j * LANES), slope)
                store(values, there + j * LANES, found)


@inner_kernel
def d_activation(row: Any, chunk: Chunk, values: Array, gradients: Array) -> None:
    """Overwrite dy with dx."""
    y, dy, slope = row.y, row.dy, values.dtype.type(row.number)
    for c in range(y.channels):
        for i in range(y.height):
            here, there = row_start(y, chunk, c, i), row_start(dy, chunk, c, i)
            for j in range(y.width):
                out, d = load(values, here + j * LANES), load(gradients, there + j * LANES)
                store(gradients, there + j * LANES, d_activate(row.function, out, d, slope))


@inner_kernel
def dropout(x: Any, y: Any, chunk: Chunk, mask: ChunkMask, rate: float, values: Array) -> None:
    """Multiply each value by 1 / (1 - rate) where it stays and by 0 elsewhere. The backward pass is
    the same for dy."""
    stays, samples, first = mask
    scale = values.dtype.type(1.0 / (1.0 - rate))
    for c in range(y.channels):
        for i in range(y.height):
            here, there = row_start(x, chunk, c, i), row_start(y, chunk, c, i)
            flags = (c * y.height + i) * y.width * samples + first
            for j in range(y.width):
                factors = load_flags(stays, flags + j * samples, scale)
                store(values, there + j * LANES, load(values, here + j * LANES) * factors)


@inner_kernel
def moments(row: Any, chunk: Chunk, values: Array, found: Array) -> None:
    """Compute the mean and the variance of each channel of the input of a batch norm, of the
    samples of a chunk, as `found` (2, channels)."""
    x, zero = row.x, values.dtype.type(0)
    share = values.dtype.type(1.0 / (chunk[1] * x.height * x.width))
    for c in range(x.channels):
        sums, squares = fill(zero), fill(zero)
        for i in range(x.height):
            here = row_start(x, chunk, c, i)
            for j in range(x.width):
                sums = sums + load(values, here + j * LANES)
        mean = total(keep(sums, chunk[1])) * share
        for i in range(x.height):
            here = row_start(x, chunk, c, i)
            for j in range(x.width):
                off = load(values, here + j * LANES) - mean
                squares = squares + off * off
        found[0, c], found[1, c] = mean, total(keep(squares, chunk[1])) * share


@inner_kernel
def _window_sum(row: Any, images: Any, first: int, values: Array) -> Any:
    """Return the sum of the window of a pool that begins at a place."""
    sums = fill(values.dtype.type(0))
    for a in range(row.tall):
        for b in range(row.wide):
            sums = sums + load(values, first + (a * images.wide + b) * LANES)
    return sums


@inner_kernel
def _rows_of_windows(row: Any, h: int) -> tuple[int, int]:
    """Return the first of the rows of windows of a pool that contain a row of its input, and their
    number, which is 0 for a row between windows."""
    first = max(0, (h - row.tall + row.down) // row.down)
    return first, max(0, min(row.dy.height, h // row.down + 1) - first)


@inner_kernel
def _next_windows(v: int, windows: tuple[int, int], pool: tuple[int, int, int]) -> tuple[int, int]:
    """Return the first window that contains a column of the input and the one after the last, given
    those of the column before. The pool is its step, the width of a window and their number.

    A division for each column takes longer than all the rest.
    """
    (first, end), (step, wide, count) = windows, pool
    return first + int(first * step + wide <= v), end + int(end * step <= v and end < count)


@inner_kernel
def _gradient_sum(gradients: Array, first: int, line: int, rows: int, columns: int) -> Any:
    """Return the sum of the gradients of some windows, which begin at a place."""
    found = fill(gradients.dtype.type(0))
    for i in range(rows):
        for j in range(columns):
            found = found + load(gradients, first + i * line + j * LANES)
    return found


@inner_kernel
def batch_norm(
    row: Any, chunk: Chunk, affine: tuple[Array, Array], of: tuple[Array, Array], values: Array
) -> None:
    """Compute the mean of each window of gamma (x - mean) / sqrt(variance + epsilon) + beta.

    That is the normalised mean of the window, which may overlap others. `of` has the mean and
    1 / sqrt(variance + epsilon).
    """
    x, y, (gamma, beta), (mean, inverse) = row.x, row.y, affine, of
    part = values.dtype.type(1.0 / (row.tall * row.wide))
    for c in range(y.channels):
        times = gamma[c] * inverse[c]
        for i in range(y.height):
            here, there = row_start(x, chunk, c, i * row.down), row_start(y, chunk, c, i)
            for j in range(y.width):
                window = _window_sum(row, x, here + j * row.across * LANES, values) * part
                store(values, there + j * LANES, (window - mean[c]) * times + beta[c])


@inner_kernel
def batch_norm_sums(
    row: Any, chunk: Chunk, of: tuple[Array, Array], memory: tuple[Array, Array], sums: Any
) -> None:
    """Compute the gradients in gamma and beta, of the samples of a chunk, as `sums`. The memory is
    that of the values and of the gradients."""
    x, dy, (mean, inverse), (values, gradients) = row.x, row.dy, of, memory
    part, zero = values.dtype.type(1.0 / (row.tall * row.wide)), values.dtype.type(0)
    for c in range(dy.channels):
        along, every = fill(zero), fill(zero)
        for i in range(dy.height):
            here, there = row_start(x, chunk, c, i * row.down), row_start(dy, chunk, c, i)
            for j in range(dy.width):
                d = load(gradients, there + j * LANES)
                window = _window_sum(row, x, here + j * row.across * LANES, values) * part
                along, every = along + d * (window - mean[c]), every + d
        sums[0][c], sums[1][c] = total(keep(along, chunk[1])) * inverse[c], total(every)


@inner_kernel
def d_batch_norm(
    row: Any, chunk: Chunk, factors: Any, samples: int, memory: tuple[Array, Array]
) -> None:
    """Compute dx, given the mean, 1 / sqrt(variance + epsilon), gamma, and the gradients in gamma
    and beta of a batch of some samples."""
    x, dx, dy, (values, gradients) = row.x, row.dx, row.dy, memory
    mean, inverse, gamma, d_gamma, d_beta = factors
    kind, line = values.dtype.type, dy.wide * LANES
    step, wide, columns = across = row.across, row.wide, dy.width
    share, part = kind(1.0 / (samples * x.height * x.width)), kind(1.0 / (row.tall * row.wide))
    for c in range(dy.channels):
        times = gamma[c] * inverse[c]
        slope, less = times * inverse[c] * d_gamma[c] * share, times * d_beta[c] * share
        each, of = times * part, (mean[c], slope)
        for h in range(dx.height):
            at = row_start(x, chunk, c, h), row_start(dx, chunk, c, h)
            i, rows = _rows_of_windows(row, h)
            back = row_start(dy, chunk, c, i)
            # Where no windows overlap, all columns of a window have the same gradient.
            disjoint = columns if step == wide and rows == 1 else 0
            for j in range(disjoint):
                d = load(gradients, back + j * LANES) * each - less
                for v in range(j * wide, (j + 1) * wide):
                    _d_normal(d, at, v * LANES, of, chunk[1], memory)
            windows = disjoint, disjoint
            for v in range(disjoint * wide, dx.width):
                windows = left, right = _next_windows(v, windows, across)
                first = back + left * LANES
                d = _gradient_sum(gradients, first, line, rows, right - left) * each - less
                _d_normal(d, at, v * LANES, of, chunk[1], memory)


@inner_kernel
def _d_normal(
    d: Any, at: tuple[int, int], place: int, of: Any, samples: int, memory: tuple[Array, Array]
) -> None:
    """Compute dx of a vector, d - (x - mean) slope, of some samples. Rows of x and dx are `at`."""
    (mean, slope), (values, gradients) = of, memory
    off = load(values, at[0] + place) - mean
    store(gradients, at[1] + place, keep(d - off * slope, samples))


@inner_kernel
def pool(row: Any, chunk: Chunk, values: Array) -> None:
    """Compute the mean of each window."""
    x, y, part = row.x, row.y, values.dtype.type(1.0 / (row.tall * row.wide))
    for c in range(y.channels):
        for i in range(y.height):
            here, there = row_start(x, chunk, c, i * row.down), row_start(y, chunk, c, i)
            for j in range(y.width):
                window = _window_sum(row, x, here + j * row.across * LANES, values)
                store(values, there + j * LANES, window * part)


@inner_kernel
def d_pool(row: Any, chunk: Chunk, gradients: Array) -> None:
    """Compute the sum of the gradients of the windows of each value."""
    dx, dy, part = row.dx, row.dy, gradients.dtype.type(1.0 / (row.tall * row.wide))
    across, line = (row.across, row.wide, dy.width), dy.wide * LANES
    for c in range(dx.channels):
        for h in range(dx.height):
            there, (i, rows), windows = row_start(dx, chunk, c, h), _rows_of_windows(row, h), (0, 0)
            back = row_start(dy, chunk, c, i)
            for v in range(dx.width):
                windows = left, right = _next_windows(v, windows, across)
                first = back + left * LANES
                found = _gradient_sum(gradients, first, line, rows, right - left)
                store(gradients, there + v * LANES, found * part)
