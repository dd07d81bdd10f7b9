"""Convolution without gathered windows: the results of a tile stay in registers until complete.

It is computed for vectors of samples at once, where they are in memory. A convolution, and dx of
one, is a nest of loops: what differs are the strides. `program.tiles` generates the inner loops.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.numba.program.tiles import add_weights, convolve_row
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import IntPair


@kernel
def convolve_places(
    x: Array, w: Array, bias: Array, y: Array, starts: Any, outer: Any, shape: Any, strides: Any
) -> None:
    """Compute the rows of y. See `program.tiles.convolve_row` for the shape and the strides.

    The starts are those of x, w and y. `outer` has the counts of replicas, groups, vectors of
    samples and rows, and the strides of x, w, y and the bias by each.
    """
    (replicas, groups, vectors, rows), by_x, by_w, by_y, by_bias = outer
    for r in range(replicas):
        for g in range(groups):
            own = bias[r * by_bias[0] + g * by_bias[1] :]
            for n in range(vectors):
                for i in range(rows):
                    at = (
                        starts[0] + r * by_x[0] + g * by_x[1] + n * by_x[2] + i * by_x[3],
                        starts[1] + r * by_w[0] + g * by_w[1],
                        starts[2] + r * by_y[0] + g * by_y[1] + n * by_y[2] + i * by_y[3],
                    )
                    convolve_row(x, w, own, y, at, shape, strides)


@kernel
def d_kernel(
    x: Array, dy: Array, dw: Array, starts: Any, outer: Any, shape: Any, strides: Any
) -> None:
    """Compute the gradient of a kernel. See `program.tiles.add_weights` for the shape and strides.

    The starts are those of x and dy. `outer` has the counts of replicas, groups, channels of a
    group and rows of the kernel, and the strides of x, dy and dw by each.
    """
    (replicas, groups, channels, tall), by_x, by_dy, by_dw = outer
    for r in range(replicas):
        for g in range(groups):
            for c in range(channels):
                for a in range(tall):
                    at = (
                        starts[0] + r * by_x[0] + g * by_x[1] + c * by_x[2] + a * by_x[3],
                        starts[1] + r * by_dy[0] + g * by_dy[1],
                        r * by_dw[0] + g * by_dw[1] + c * by_dw[2] + a * by_dw[3],
                    )
                    add_weights(x, dy, dw, at, shape, strides)


class Axis(NamedTuple):
    """A convolution along one axis of an image."""

    size: int
    out: int
    window: int
    stride: int
    dilation: int
    before: int
    """The zeros before the image."""

    @property
    def margins(self) -> IntPair:
        """The zeros around dy with which every place of dx has all its terms."""
        reach = (self.window - 1) * self.dilation - self.before
        last = (self.before + self.size - 1) // self.stride
        return max(0, -(-reach // self.stride)), max(0, last - (self.out - 1))

    def residues(self) -> list[Residue]:
        """Return the places of dx by their remainder, divided by the stride."""
        apart = self.stride // math.gcd(self.stride, self.dilation)
        found = []
        for first in range(min(self.stride, self.size)):
            place = first + self.before
            taps = range(self.window)[:apart]
            tap = next((b for b in taps if (place - b * self.dilation) % self.stride == 0), None)
            count = len(range(first, self.size, self.stride))
            if tap is None:
                found.append(Residue(first, count, 0, 0, 0, 0, 0))
                continue
            source = (place - tap * self.dilation) // self.stride + self.margins[0]
            taps, back = range(tap, self.window, apart), apart * self.dilation // self.stride
            found.append(Residue(first, count, tap, len(taps), apart, source, -back))
        return found


class Residue(NamedTuple):
    """Places of dx, one stride apart, to which the same weights contribute: none, or those from
    `tap` on that are `apart`. The first of these multiplies the value of dy at `source`, and each
    further one that which is `back` places later; a further place, the next values."""

    first: int
    places: int
    tap: int
    taps: int
    apart: int
    source: int
    back: int


class DirectConvolution:
    """A convolution of images (R, C, H, W, N), of whole vectors of samples, with a kernel (R, tall,
    wide, channels of a group, filters)."""

    def __init__(self, down: Axis, across: Axis, groups: int, shape: tuple[int, int]) -> None:
        self.down, self.across, self.groups = down, across, groups
        self.channels, self.filters = shape
        """The channels and the filters of a group."""
        every = groups * self.filters
        self.by_weight = self.channels * every
        self.by_row, self.every = across.window * self.by_weight, every
        self.size = down.window * self.by_row
        self.margins = down.margins, across.margins
        self.residues = [(a, b) for a in down.residues() for b in across.residues()]

    def forward(self, x: Array, weights: Array, bias: Array, y: Array) -> None:
        """Compute y (R, F, H', W', N) from the padded x."""
        down, across, line, (plane, y_plane) = self.down, self.across, x.shape[-1], _planes(x, y)
        x_line, y_line = x.shape[3] * line, y.shape[3] * line
        shared = self.groups * self.channels * plane if len(x) > 1 else 0
        outer = (
            (len(y), self.groups, line // LANES, down.out),
            (shared, self.channels * plane, LANES, down.stride * x_line),
            (self.size, self.filters),
            (self.every * y_plane, self.filters * y_plane, LANES, y_line),
            (self.every, self.filters),
        )
        shape = (self.filters, across.out), (self.channels, down.window, across.window)
        strides = (
            (plane, down.dilation * x_line, across.dilation * line),
            (self.every, self.by_row, self.by_weight, 1),
            y_plane,
            (across.stride * line, line),
        )
        flat = x.reshape(-1), weights.reshape(-1), bias.reshape(-1), y.reshape(-1)
        convolve_places(*flat, (0, 0, 0), outer, shape, strides)

    def backward(self, dy: Array, weights: Array, dx: Array) -> None:
        """Compute dx (R, C, H, W, N), without padding, from dy with margins."""
        line, (plane, dy_plane) = dy.shape[-1], _planes(dx, dy)
        dx_line, dy_line = dx.shape[3] * line, dy.shape[3] * line
        zeros = np.zeros(self.channels, dy.dtype)
        flat = dy.reshape(-1), weights.reshape(-1), zeros, dx.reshape(-1)
        for rows, columns in self.residues:
            starts = (
                rows.source * dy_line + columns.source * line,
                rows.tap * self.by_row + columns.tap * self.by_weight,
                rows.first * dx_line + columns.first * line,
            )
            outer = (
                (len(dx), self.groups, line // LANES, rows.places),
                (self.every * dy_plane, self.filters * dy_plane, LANES, dy_line),
                (self.size, self.filters),
                (
                    self.groups * self.channels * plane,
                    self.channels * plane,
                    LANES,
                    self.down.stride * dx_line,
                ),
                (0, 0),
            )
            shape = (self.channels, columns.places), (self.filters, rows.taps, columns.taps)
            strides = (
                (dy_plane, rows.back * dy_line, columns.back * line),
                (1, rows.apart * self.by_row, columns.apart * self.by_weight, self.every),
                plane,
                (line, self.across.stride * line),
            )
            convolve_places(*flat, starts, outer, shape, strides)

    def d_kernel(self, x: Array, dy: Array, d: Array) -> None:
        """Compute the gradient d of a kernel from the padded x and dy with margins."""
        down, across, line, (plane, dy_plane) = self.down, self.across, x.shape[-1], _planes(x, dy)
        x_line, dy_line = x.shape[3] * line, dy.shape[3] * line
        shared = self.groups * self.channels * plane if len(x) > 1 else 0
        outer = (
            (len(dy), self.groups, self.channels, down.window),
            (shared, self.channels * plane, plane, down.dilation * x_line),
            (self.every * dy_plane, self.filters * dy_plane),
            (self.size, self.filters, self.every, self.by_row),
        )
        shape = (self.filters, across.window), (down.out, across.out, line // LANES)
        strides = (
            (down.stride * x_line, dy_line, dy_plane),
            (self.by_weight, 1),
            (across.stride * line, across.dilation * line, line),
        )
        starts = 0, self.margins[0][0] * dy_line + self.margins[1][0] * line
        d_kernel(x.reshape(-1), dy.reshape(-1), d.reshape(-1), starts, outer, shape, strides)


def _planes(*arrays: Array) -> list[int]:
    """Return the size of a channel of each array (R, C, H, W, N)."""
    return [math.prod(array.shape[2:]) for array in arrays]
