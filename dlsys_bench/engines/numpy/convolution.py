"""2-D convolution as one matrix product over gathered windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dlsys_bench.engines.numpy.rule import MIN_UNLOCKED_RESULTS, LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Conv2D, IntPair, Shape


def windows(
    window: IntPair, strides: IntPair, out: Shape
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Yield for each position (i, j) in a window the index into (..., H, W, N) of the values at
    that position in the windows of all `out` outputs."""
    for i in range(window[0]):
        for j in range(window[1]):
            down = slice(i, i + strides[0] * (out[0] - 1) + 1, strides[0])
            across = slice(j, j + strides[1] * (out[1] - 1) + 1, strides[1])
            yield i, j, (..., down, across, slice(None))


def _kernel_gradient(gathered: Array, flat: Array, ho: int) -> Array:
    """Compute (1 or R, K, P) @ (R, F, P)^T. A product with few results is split along P, so that
    numpy releases the interpreter's lock (see `MIN_UNLOCKED_RESULTS`)."""
    p = flat.shape[2]
    results = len(flat) * gathered.shape[1] * flat.shape[1]
    parts = next(
        (d for d in range(1, ho) if ho % d == 0 and d * results > MIN_UNLOCKED_RESULTS), ho
    )
    if parts == 1:
        return gathered @ flat.swapaxes(1, 2)
    a, b = (
        each.reshape(*each.shape[:2], parts, p // parts).swapaxes(1, 2) for each in (gathered, flat)
    )
    found: Array = (a @ b.swapaxes(2, 3)).sum(axis=1)
    return found


# The windows of a batch are gathered in pieces of this size, because those of sixty thousand images
# would take gigabytes.
PIECE_BYTES = 2**28


class Conv2DRule(LayerRule[Conv2D]):
    """y = kernel^T windows(x) + bias, where the columns of windows(x) are the gathered windows."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        kernel = self.tensors["kernel"]
        replicas, filters = kernel.shape[0], self.layer.filters
        x, n = self._padded(x), x.shape[-1]
        self.x, self.gathered = x, None
        ho, wo, _ = self.layer.output_shape(self.shape)
        weights = kernel.reshape(replicas, -1, filters).swapaxes(1, 2)
        y = self.buffer("y", (replicas, filters, ho, wo, n), x.dtype)
        for piece in self._pieces(x):
            if piece == slice(0, n):
                # One piece: keep the windows for the backward pass.
                self.gathered = self._gather(x)
                np.matmul(weights, self.gathered, out=y.reshape(replicas, filters, -1))
            else:
                y[..., piece] = (weights @ self._gather(x[..., piece])).reshape(
                    replicas, filters, ho, wo, -1
                )
        if self.layer.use_bias:
            y += self.tensors["bias"][..., None, None, None]
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        replicas, filters, ho, wo, _ = dy.shape
        d_kernel = self.gradients["kernel"].reshape(replicas, -1, filters)
        if self.layer.use_bias:
            np.sum(dy.reshape(replicas, filters, -1), axis=-1, out=self.gradients["bias"])
        dx = self.buffer("dx", (replicas, *self.x.shape[1:]), dy.dtype) if wants_dx else None
        if dx is not None:
            dx.fill(0)
        for piece in self._pieces(self.x):
            flat = np.ascontiguousarray(dy[..., piece]).reshape(replicas, filters, -1)
            gathered = self._gather(self.x[..., piece]) if self.gathered is None else self.gathered
            if piece.start == 0:
                d_kernel[...] = _kernel_gradient(gathered, flat, ho)
            else:
                d_kernel += _kernel_gradient(gathered, flat, ho)
            if dx is not None:
                self._scatter(flat, dx[..., piece], (ho, wo))
        return None if dx is None else self._cropped(dx)

    def _padded(self, x: Array) -> Array:
        (top, bottom), (left, right) = self.layer.pads(self.shape)
        r, c, h, w, n = x.shape
        if not (top or bottom or left or right):
            return x
        padded = self.buffer("padded", (r, c, h + top + bottom, w + left + right, n), x.dtype)
        padded.fill(0)
        padded[:, :, top : top + h, left : left + w] = x
        return padded

    def _cropped(self, dx: Array) -> Array:
        (top, _), (left, _) = self.layer.pads(self.shape)
        return dx[:, :, top : top + self.shape[0], left : left + self.shape[1]]

    def _pieces(self, x: Array) -> list[slice]:
        """Split the batch into pieces whose windows fit in PIECE_BYTES; nearly always one."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        of_one = math.prod((len(x), *self.layer.kernel_size, x.shape[1], ho, wo)) * x.itemsize
        size, n = max(1, PIECE_BYTES // of_one), x.shape[-1]
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def _gather(self, x: Array) -> Array:
        """Gather the windows of padded images (R, C, H, W, N) as columns (R, h w C, H' W' N)."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        gathered = self.buffer(
            "windows", (len(x), *self.layer.kernel_size, x.shape[1], ho, wo, x.shape[-1]), x.dtype
        )
        self._copy(x, gathered)
        return gathered.reshape(len(x), -1, ho * wo * x.shape[-1])

    def _copy(self, x: Array, gathered: Array) -> None:
        down, across = self.layer.strides
        places = sliding_window_view(x, self.layer.kernel_size, axis=(2, 3))[:, :, ::down, ::across]
        np.copyto(gathered, places.transpose(0, 5, 6, 1, 2, 3, 4))

    def _scatter(self, flat: Array, dx: Array, out: IntPair) -> None:
        """Add to the padded dx (R, C, H, W, N) the gradients in its windows, from dy as `flat`
        (R, filters, H' W' N)."""
        kernel = self.tensors["kernel"]
        replicas, filters = kernel.shape[0], self.layer.filters
        weights = kernel.reshape(replicas, -1, filters)
        d_gathered = self.buffer(
            "d_windows", (replicas, weights.shape[1], flat.shape[-1]), dx.dtype
        )
        np.matmul(weights, flat, out=d_gathered)
        d_places = d_gathered.reshape(replicas, *self.layer.kernel_size, -1, *out, dx.shape[-1])
        if out == (1, 1):
            # One window per image: nothing overlaps, so all positions are copied at once.
            h, w = self.layer.kernel_size
            dx[:, :, :h, :w] = d_places[..., 0, 0, :].transpose(0, 3, 1, 2, 4)
            return
        self._add(d_places, dx, out)

    def _add(self, d_places: Array, dx: Array, out: IntPair) -> None:
        for i, j, at in windows(self.layer.kernel_size, self.layer.strides, out):
            dx[at] += d_places[:, i, j]
