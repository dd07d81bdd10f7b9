"""2-D convolution as one matrix product over gathered windows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dlsys_bench.engines.numpy.rule import Rule
from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import Conv2D, Pair, Shape


def windows(window: Pair, strides: Pair, out: Shape) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """For each place (i, j) in a window, the index into (..., H, W, N) of what stands there in the `out` windows."""
    for i in range(window[0]):
        for j in range(window[1]):
            down = slice(i, i + strides[0] * (out[0] - 1) + 1, strides[0])
            across = slice(j, j + strides[1] * (out[1] - 1) + 1, strides[1])
            yield i, j, (..., down, across, slice(None))


# The windows of a batch are gathered in pieces of this size: those of sixty thousand images would take gigabytes.
PIECE_BYTES = 2**28


class Conv2DRule(Rule[Conv2D]):
    """y = kernel^T windows(x) + bias."""

    def forward(self, x: Array, training: bool) -> Array:
        kernel = self.tensors["kernel"]
        replicas, filters = kernel.shape[0], self.layer.filters
        (top, bottom), (left, right) = self.layer.pads(self.shape)
        r, c, h, w, n = x.shape
        if top or bottom or left or right:
            padded = self.buffer("padded", (r, c, h + top + bottom, w + left + right, n), x.dtype)
            padded.fill(0)
            padded[:, :, top : top + h, left : left + w] = x
            x = padded
        ho, wo, _ = self.layer.output_shape(self.shape)
        self.x, self.gathered = x, None
        weights = kernel.reshape(replicas, -1, filters).swapaxes(1, 2)
        y = self.buffer("y", (replicas, filters, ho, wo, n), x.dtype)
        for piece in self._pieces(x):
            if piece == slice(0, n):
                # All at once, and kept for the way back.
                self.gathered = self._gather(x)
                np.matmul(weights, self.gathered, out=y.reshape(replicas, filters, -1))
            else:
                y[..., piece] = (weights @ self._gather(x[..., piece])).reshape(replicas, filters, ho, wo, -1)
        if self.layer.use_bias:
            y += self.tensors["bias"][..., None, None, None]
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
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
                np.matmul(gathered, flat.swapaxes(1, 2), out=d_kernel)
            else:
                d_kernel += gathered @ flat.swapaxes(1, 2)
            if dx is not None:
                self._scatter(flat, dx[..., piece], (ho, wo))
        (top, _), (left, _) = self.layer.pads(self.shape)
        return None if dx is None else dx[:, :, top : top + self.shape[0], left : left + self.shape[1]]

    def _pieces(self, x: Array) -> list[slice]:
        """The batch in parts whose windows stay within PIECE_BYTES; nearly always one."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        of_one = math.prod((len(x), *self.layer.kernel_size, x.shape[1], ho, wo)) * x.itemsize
        size, n = max(1, PIECE_BYTES // of_one), x.shape[-1]
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def _gather(self, x: Array) -> Array:
        """The windows of padded images (R, C, H, W, N) as (R, h w C, H' W' N)."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        gathered = self.buffer(
            "windows", (len(x), *self.layer.kernel_size, x.shape[1], ho, wo, x.shape[-1]), x.dtype
        )  # fmt: skip
        for i, j, at in windows(self.layer.kernel_size, self.layer.strides, (ho, wo)):
            gathered[:, i, j] = x[at]
        return gathered.reshape(len(x), -1, ho * wo * x.shape[-1])

    def _scatter(self, flat: Array, dx: Array, out: Pair) -> None:
        """Add to dx (R, C, H, W, N), padded, what its windows pass back. flat (R, filters, H' W' N)."""
        kernel = self.tensors["kernel"]
        replicas, filters = kernel.shape[0], self.layer.filters
        weights = kernel.reshape(replicas, -1, filters)
        d_gathered = self.buffer("d_windows", (replicas, weights.shape[1], flat.shape[-1]), dx.dtype)
        np.matmul(weights, flat, out=d_gathered)
        d_places = d_gathered.reshape(replicas, *self.layer.kernel_size, -1, *out, dx.shape[-1])
        for i, j, at in windows(self.layer.kernel_size, self.layer.strides, out):
            dx[at] += d_places[:, i, j]
