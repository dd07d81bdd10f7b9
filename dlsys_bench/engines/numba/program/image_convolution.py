"""Convolution on a chunk of images, forward and backward. See `image_layers`."""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.numba.kernel import call, inner_kernel
from dlsys_bench.engines.numba.program.image_memory import Chunk, corner, row_start
from dlsys_bench.engines.numba.program.lanes import LANES, fill, load, total
from dlsys_bench.engines.numba.program.tiles import add_weights, convolve_row
from dlsys_bench.engines.plan import Array


@inner_kernel
def row_of_convolution(
    x: Array, w: Array, bias: Array, y: Array, at: Any, shape: Any, strides: Any
) -> int:
    """Compute a row of a convolution, see `tiles.convolve_row`, and return 0. It takes long to
    compile, so it is called by its address."""
    convolve_row(x, w, bias, y, at, shape, strides)
    return 0


@inner_kernel
def convolve(row: Any, chunk: Chunk, function: int, w: Array, bias: Array, values: Array) -> None:
    """Compute the convolution with a kernel (tall, wide, channels, filters), by the function at the
    address of `row_of_convolution`."""
    x, y = row.x, row.y
    counts = x.channels, row.tall, row.wide
    x_strides = x.tall * x.wide * LANES, x.wide * LANES, LANES
    w_strides = y.channels, row.wide * x.channels * y.channels, x.channels * y.channels, 1
    for i in range(y.height):
        at = corner(x, chunk) + i * x.wide * LANES, 0, row_start(y, chunk, 0, i)
        shape = (y.channels, y.width), counts
        strides = x_strides, w_strides, y.tall * y.wide * LANES
        call(function, (values, w, bias, values, at, shape, strides))


@inner_kernel
def d_weights(row: Any, chunk: Chunk, values: Array, gradients: Array, dw: Array) -> None:
    """Compute the gradient in the kernel of `convolve`, of the samples of a chunk."""
    x, dy = row.x, row.dy
    strides = x.wide * LANES, dy.wide * LANES, dy.height * dy.wide * LANES
    for c in range(x.channels):
        for a in range(row.tall):
            place = (a * row.wide * x.channels + c) * dy.channels
            at = corner(x, chunk) + (c * x.tall + a) * x.wide * LANES, corner(dy, chunk), place
            shape = (dy.channels, row.wide), (dy.height, dy.width)
            by = x.channels * dy.channels, 1
            add_weights(values, gradients, dw, at, shape, (strides, by))


@inner_kernel
def d_biases(row: Any, chunk: Chunk, gradients: Array, d: Array) -> None:
    """Compute the gradient in the bias of `convolve`, of the samples of a chunk."""
    dy = row.dy
    for f in range(dy.channels):
        sums, first = fill(gradients.dtype.type(0)), row_start(dy, chunk, f, 0)
        for k in range(dy.height * dy.width):
            sums = sums + load(gradients, first + k * LANES)
        d[f] = total(sums)


@inner_kernel
def d_images(
    row: Any, chunk: Chunk, function: int, w: Array, zeros: Array, gradients: Array
) -> None:
    """Compute the gradient in the input of `convolve`. `zeros` are as many as channels.

    It is a convolution of dy with the transposed kernel, of which only those weights are used that
    meet a value of dy: a range of rows and of columns. It is the same for all columns in the
    middle of a row, which are computed together.
    """
    x, dx, dy = row.x, row.dx, row.dy
    top, left = x.first // x.wide, x.first % x.wide
    column = dx.channels * dy.channels
    line = row.wide * column
    dy_strides = -dy.wide * LANES, -LANES, dy.height * dy.wide * LANES
    w_strides = line, column, 1, dy.channels
    for h in range(dx.height):
        above = max(0, h + top - dy.height + 1)
        rows = min(row.tall - 1, h + top) - above + 1
        v = 0
        while v < dx.width:
            place = v + left
            first, last = max(0, place - dy.width + 1), min(row.wide - 1, place)
            middle = first == 0 and last == row.wide - 1
            width = min(dy.width - left, dx.width) - v if middle else 1
            source = row_start(dy, chunk, 0, h + top - above) + (place - first) * LANES
            at = source, above * line + first * column, row_start(dx, chunk, 0, h) + v * LANES
            shape = (dx.channels, width), (rows, last - first + 1, dy.channels)
            strides = dy_strides, w_strides, dx.height * dx.wide * LANES
            call(function, (gradients, w, zeros, gradients, at, shape, strides))
            v += width
