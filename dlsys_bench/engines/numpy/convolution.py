"""Convolution as matrix products over gathered windows.

A product of a kernel with all windows of a batch is one matrix product, once the windows are the
columns of a matrix: a column has the values of one window, a row those of one place in the window
and one channel, for all windows of all samples. In the shapes, K is the number of values of a
window, and P the number of windows in a batch.

With groups, each group of channels has its own matrix of windows and its own part of the kernel:
the product is one of stacks of matrices, (R, groups, ...). In a depthwise convolution, a group is
one channel. With dilation, the values of a window are further apart: only where windows are
gathered, and where their gradients are added, does that matter.

A sequence is an image of one row, so one rule computes the convolutions of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dlsys_bench.engines.numpy.rule import MIN_UNLOCKED_RESULTS, LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Convolution, IntPair, Shape


def windows(
    window: IntPair, strides: IntPair, out: Shape, dilation: IntPair = (1, 1)
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Yield for each position (i, j) in a window the index into (..., H, W, N) of the values at
    that position in the windows of all `out` outputs."""
    for i in range(window[0]):
        for j in range(window[1]):
            top, left = i * dilation[0], j * dilation[1]
            down = slice(top, top + strides[0] * (out[0] - 1) + 1, strides[0])
            across = slice(left, left + strides[1] * (out[1] - 1) + 1, strides[1])
            yield i, j, (..., down, across, slice(None))


def _kernel_gradient(gathered: Array, flat: Array, ho: int) -> Array:
    """Compute (1 or R, G, K, P) @ (R, G, F, P)^T. A product with few results is split along P, so
    that numpy releases the interpreter's lock (see `MIN_UNLOCKED_RESULTS`)."""
    p = flat.shape[-1]
    results = math.prod(flat.shape[:-1]) * gathered.shape[-2]
    parts = next(
        (d for d in range(1, ho) if ho % d == 0 and d * results > MIN_UNLOCKED_RESULTS), ho
    )
    if parts == 1:
        return gathered @ flat.swapaxes(-1, -2)
    a, b = (
        each.reshape(*each.shape[:-1], parts, p // parts).swapaxes(-2, -3)
        for each in (gathered, flat)
    )
    found: Array = (a @ b.swapaxes(-1, -2)).sum(axis=-3)
    return found


# The windows of a batch are gathered in pieces of this size, because those of sixty thousand images
# would take gigabytes.
PIECE_BYTES = 2**28


class ConvolutionRule(LayerRule[Convolution]):
    """y = kernel^T windows(x) + bias, where the columns of windows(x) are the gathered windows."""

    def __init__(self, layer: Convolution, *arguments: Any) -> None:
        super().__init__(layer, *arguments)
        shape = self.shape
        self.channels, self.groups = shape[-1], layer.groups
        self.places = layer.output_shape(shape)[:-1]
        self.size, self.out = _plane(shape[:-1]), _plane(self.places)
        self.window, self.strides = _plane(layer.window), _plane(layer.steps)
        self.dilation, self.span = _plane(layer.spacing), _plane(layer.span)
        above, beside = ((0, 0), *layer.pads(shape))[-2:]
        self.pads = above, beside

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        filters, n = self.layer.filters, x.shape[-1]
        x = self._padded(x.reshape(*x.shape[:2], *self.size, n))
        self.x, self.gathered = x, None
        weights = self._weights(self.tensors["kernel"]).swapaxes(2, 3)
        replicas = len(weights)
        y = self.buffer("y", (replicas, filters, *self.out, n), x.dtype)
        for piece in self._pieces(x):
            if piece == slice(0, n):
                # One piece: keep the windows for the backward pass.
                self.gathered = self._gather(x)
                np.matmul(
                    weights,
                    self.gathered,
                    out=y.reshape(replicas, self.groups, filters // self.groups, -1),
                )
            else:
                y[..., piece] = (weights @ self._gather(x[..., piece])).reshape(
                    replicas, filters, *self.out, -1
                )
        if self.layer.use_bias:
            y += self.tensors["bias"][..., None, None, None]
        return y.reshape(replicas, filters, *self.places, n)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted.

        The gradient of the kernel is the product of the windows and dy. That of the windows is the
        product of the kernel and dy; a value of x gets the sum over the windows that contain it.
        """
        replicas, filters = dy.shape[:2]
        dy = dy.reshape(replicas, filters, *self.out, -1)
        if self.layer.use_bias:
            np.sum(dy.reshape(replicas, filters, -1), axis=-1, out=self.gradients["bias"])
        d_kernel = self._weights(self.gradients["kernel"])
        dx = self.buffer("dx", (replicas, *self.x.shape[1:]), dy.dtype) if wants_dx else None
        if dx is not None:
            dx.fill(0)
        for piece in self._pieces(self.x):
            flat = np.ascontiguousarray(dy[..., piece]).reshape(
                replicas, self.groups, filters // self.groups, -1
            )
            gathered = self._gather(self.x[..., piece]) if self.gathered is None else self.gathered
            if piece.start == 0:
                d_kernel[...] = _kernel_gradient(gathered, flat, self.out[0])
            else:
                d_kernel += _kernel_gradient(gathered, flat, self.out[0])
            if dx is not None:
                self._scatter(flat, dx[..., piece])
        return None if dx is None else self._cropped(dx)

    def _weights(self, kernel: Array) -> Array:
        """Return a view of a kernel as (R, groups, K, filters of a group)."""
        parts = self.groups, self.layer.filters // self.groups
        return kernel.reshape(len(kernel), -1, *parts).swapaxes(1, 2)

    def _padded(self, x: Array) -> Array:
        (top, bottom), (left, right) = self.pads
        r, c, h, w, n = x.shape
        if not (top or bottom or left or right):
            return x
        padded = self.buffer("padded", (r, c, h + top + bottom, w + left + right, n), x.dtype)
        padded.fill(0)
        padded[:, :, top : top + h, left : left + w] = x
        return padded

    def _cropped(self, dx: Array) -> Array:
        (top, _), (left, _) = self.pads
        middle = dx[:, :, top : top + self.size[0], left : left + self.size[1]]
        return middle.reshape(*dx.shape[:2], *self.shape[:-1], dx.shape[-1])

    def _pieces(self, x: Array) -> list[slice]:
        """Split the batch into pieces whose windows fit in PIECE_BYTES; nearly always one."""
        of_one = math.prod((len(x), *self.window, self.channels, *self.out)) * x.itemsize
        size, n = max(1, PIECE_BYTES // of_one), x.shape[-1]
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def _gather(self, x: Array) -> Array:
        """Gather the windows of padded images (R, C, H, W, N) as columns (R, groups, K, P)."""
        channels = self.channels // self.groups
        shape = (len(x), self.groups, *self.window, channels, *self.out, x.shape[-1])
        gathered = self.buffer("windows", shape, x.dtype)
        self._copy(x.reshape(len(x), self.groups, channels, *x.shape[2:]), gathered)
        return gathered.reshape(len(x), self.groups, math.prod(shape[2:5]), -1)

    def _copy(self, x: Array, gathered: Array) -> None:
        """Copy the windows of x (R, groups, C, H, W, N) to (R, groups, h, w, C, H', W', N)."""
        (down, across), (rows, columns) = self.strides, self.dilation
        places = sliding_window_view(x, self.span, axis=(3, 4))
        places = places[:, :, :, ::down, ::across, :, ::rows, ::columns]
        np.copyto(gathered, places.transpose(0, 1, 6, 7, 2, 3, 4, 5))

    def _scatter(self, flat: Array, dx: Array) -> None:
        """Add to the padded dx (R, C, H, W, N) the gradients in its windows, from dy as `flat`
        (R, groups, filters of a group, P)."""
        weights = self._weights(self.tensors["kernel"])
        replicas, groups, values = weights.shape[:3]
        shape = replicas, groups, values, flat.shape[-1]
        d_gathered = self.buffer("d_windows", shape, dx.dtype)
        np.matmul(weights, flat, out=d_gathered)
        d_places = d_gathered.reshape(replicas, groups, *self.window, -1, *self.out, dx.shape[-1])
        grouped = dx.reshape(replicas, groups, -1, *dx.shape[2:])
        if self.out == (1, 1) and self.dilation == (1, 1):
            # One window per image: nothing overlaps, so all positions are copied at once.
            h, w = self.window
            grouped[:, :, :, :h, :w] = d_places[..., 0, 0, :].transpose(0, 1, 4, 2, 3, 5)
            return
        self._add(d_places, grouped)

    def _add(self, d_places: Array, dx: Array) -> None:
        """Add the gradients in windows (R, groups, h, w, C, H', W', N) to dx (R, groups, C, H, W,
        N)."""
        for i, j, at in windows(self.window, self.strides, self.out, self.dilation):
            dx[at] += d_places[:, :, i, j]


def _plane(sizes: Shape) -> IntPair:
    """Return the sizes along the two axes of an image, of which a sequence has the second."""
    down, across = (1, *sizes)[-2:]
    return down, across
