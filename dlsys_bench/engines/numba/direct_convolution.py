"""Convolution without gathered windows: the results of a tile stay in registers until complete.

It is computed for vectors of samples at once, where they are in memory. A convolution, and dx of
one, is a nest of loops: what differs are the strides. `program.tiles` generates the inner loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.program.lanes import LANES
from dlsys_bench.engines.numba.program.tiles import add_weights, convolve_row
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import IntPair


@kernel
def convolve_places(x: Array, w: Array, bias: Array, y: Array, layouts: NDArray[np.int64]) -> None:
    """Compute the rows of y, for each of the layouts, which are rows of `flat_layout`.

    A layout has where x, w and y begin, the counts of replicas, groups, vectors of samples and
    rows, and the strides of x, w, y and the bias by each, followed by the shape and the strides of
    `program.tiles.convolve_row`.
    """
    flat = x.reshape(-1), w.reshape(-1), y.reshape(-1)
    biases = bias.reshape(-1)
    for one in layouts:
        by_x, by_w, by_y, by_bias = one[7:11], one[11:13], one[13:17], one[17:19]
        shape = (one[19], one[20]), (one[21], one[22], one[23])
        weights = one[27], one[28], one[29], one[30]
        strides = (one[24], one[25], one[26]), weights, one[31], (one[32], one[33])
        for r in range(one[3]):
            for g in range(one[4]):
                own = biases[r * by_bias[0] + g * by_bias[1] :]
                for n in range(one[5]):
                    for i in range(one[6]):
                        at = (
                            one[0] + r * by_x[0] + g * by_x[1] + n * by_x[2] + i * by_x[3],
                            one[1] + r * by_w[0] + g * by_w[1],
                            one[2] + r * by_y[0] + g * by_y[1] + n * by_y[2] + i * by_y[3],
                        )
                        convolve_row(flat[0], flat[1], own, flat[2], at, shape, strides)


@kernel
def d_kernel(x: Array, dy: Array, dw: Array, layouts: NDArray[np.int64]) -> None:
    """Compute the gradient of a kernel, for each of the layouts, which are rows of `flat_layout`.

    A layout has where x and dy begin, the counts of replicas, groups, channels of a group and rows
    of the kernel, and the strides of x, dy and dw by each, followed by the shape and the strides of
    `program.tiles.add_weights`.
    """
    flat = x.reshape(-1), dy.reshape(-1), dw.reshape(-1)
    for one in layouts:
        by_x, by_dy, by_dw = one[6:10], one[10:12], one[12:16]
        shape = (one[16], one[17]), (one[18], one[19], one[20])
        rows, places = (one[21], one[22], one[23]), (one[26], one[27], one[28])
        strides = rows, (one[24], one[25]), places
        for r in range(one[2]):
            for g in range(one[3]):
                for c in range(one[4]):
                    for a in range(one[5]):
                        at = (
                            one[0] + r * by_x[0] + g * by_x[1] + c * by_x[2] + a * by_x[3],
                            one[1] + r * by_dy[0] + g * by_dy[1],
                            r * by_dw[0] + g * by_dw[1] + c * by_dw[2] + a * by_dw[3],
                        )
                        add_weights(*flat, at, shape, strides)


def flat_layout(*values: Any) -> list[int]:
    """Return whole numbers in tuples, which may contain tuples, one after another."""
    found = list[int]()
    for value in values:
        found.extend(flat_layout(*value) if isinstance(value, tuple) else [value])
    return found


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
        self.layouts: dict[tuple[Any, ...], NDArray[np.int64]] = {}
        self.residues = [(a, b) for a in down.residues() for b in across.residues()]

    def forward(self, x: Array, weights: Array, bias: Array, y: Array) -> None:
        """Compute y (R, F, H', W', N) from the padded x."""
        convolve_places(x, weights, bias, y, self._layouts(self._forward, x, y))

    def backward(self, dy: Array, weights: Array, dx: Array) -> None:
        """Compute dx (R, C, H, W, N), without padding, from dy with margins."""
        zeros = np.zeros((1, self.channels), dy.dtype)
        convolve_places(dy, weights, zeros, dx, self._layouts(self._backward, dy, dx))

    def d_kernel(self, x: Array, dy: Array, d: Array) -> None:
        """Compute the gradient d of a kernel from the padded x and dy with margins."""
        d_kernel(x, dy, d, self._layouts(self._d_kernel, x, dy))

    def _layouts(
        self, compute: Callable[[Array, Array], list[list[int]]], *arrays: Array
    ) -> NDArray[np.int64]:
        """Return the layouts that a method computes from arrays, which depend on their shapes."""
        key = compute.__name__, *(array.shape for array in arrays)
        if key not in self.layouts:
            self.layouts[key] = np.array(compute(*arrays), np.int64)
        return self.layouts[key]

    def _forward(self, x: Array, y: Array) -> list[list[int]]:
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
        return [flat_layout((0, 0, 0), outer, shape, strides)]

    def _backward(self, dy: Array, dx: Array) -> list[list[int]]:
        line, (plane, dy_plane) = dy.shape[-1], _planes(dx, dy)
        dx_line, dy_line = dx.shape[3] * line, dy.shape[3] * line
        channels = self.groups * self.channels
        found = []
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
                (channels * plane, self.channels * plane, LANES, self.down.stride * dx_line),
                (0, 0),
            )
            shape = (self.channels, columns.places), (self.filters, rows.taps, columns.taps)
            strides = (
                (dy_plane, rows.back * dy_line, columns.back * line),
                (1, rows.apart * self.by_row, columns.apart * self.by_weight, self.every),
                plane,
                (line, self.across.stride * line),
            )
            found.append(flat_layout(starts, outer, shape, strides))
        return found

    def _d_kernel(self, x: Array, dy: Array) -> list[list[int]]:
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
        return [flat_layout(starts, outer, shape, strides)]


def _planes(*arrays: Array) -> list[int]:
    """Return the size of a channel of each array (R, C, H, W, N)."""
    return [math.prod(array.shape[2:]) for array in arrays]
