"""2-D convolution as one matrix product over gathered windows."""

from __future__ import annotations

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
        gathered = self.buffer("windows", (r, *self.layer.kernel_size, c, ho, wo, n), x.dtype)
        for i, j, at in windows(self.layer.kernel_size, self.layer.strides, (ho, wo)):
            gathered[:, i, j] = x[at]
        self.padded_shape = x.shape
        self.gathered = gathered.reshape(r, -1, ho * wo * n)
        y = self.buffer("y", (replicas, filters, ho * wo * n), x.dtype)
        np.matmul(kernel.reshape(replicas, -1, filters).swapaxes(1, 2), self.gathered, out=y)
        if self.layer.use_bias:
            y += self.tensors["bias"][..., None]
        return y.reshape(replicas, filters, ho, wo, n)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        kernel = self.tensors["kernel"]
        replicas, filters, ho, wo, n = dy.shape
        flat = dy.reshape(replicas, filters, -1)
        d_kernel = self.gradients["kernel"].reshape(replicas, -1, filters)
        np.matmul(self.gathered, flat.swapaxes(1, 2), out=d_kernel)
        if self.layer.use_bias:
            np.sum(flat, axis=-1, out=self.gradients["bias"])
        if not wants_dx:
            return None
        d_gathered = self.buffer("d_windows", (replicas, *self.gathered.shape[1:]), dy.dtype)
        np.matmul(kernel.reshape(replicas, -1, filters), flat, out=d_gathered)
        d_places = d_gathered.reshape(replicas, *self.layer.kernel_size, -1, ho, wo, n)
        dx = self.buffer("dx", (replicas, *self.padded_shape[1:]), dy.dtype)
        dx.fill(0)
        for i, j, at in windows(self.layer.kernel_size, self.layer.strides, (ho, wo)):
            dx[at] += d_places[:, i, j]
        (top, _), (left, _) = self.layer.pads(self.shape)
        return dx[:, :, top : top + self.shape[0], left : left + self.shape[1]]
