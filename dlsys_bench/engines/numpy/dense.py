"""The fully connected layer, and flattening."""

from __future__ import annotations

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule, rows
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Dense, Flatten


class DenseRule(LayerRule[Dense]):
    """y = kernel^T x + bias, for each position of a sequence."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        after = x.shape[2:]
        self.x = x = rows(x)
        kernel = self.tensors["kernel"]
        y = self.buffer("y", (kernel.shape[0], self.layer.units, x.shape[-1]), x.dtype)
        np.matmul(kernel.swapaxes(1, 2), x, out=y)
        if self.layer.use_bias:
            y += self.tensors["bias"][..., None]
        return y.reshape(*y.shape[:2], *after)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        after, dy = dy.shape[2:], rows(dy)
        np.matmul(self.x, dy.swapaxes(1, 2), out=self.gradients["kernel"])
        if self.layer.use_bias:
            np.add.reduce(dy, axis=-1, out=self.gradients["bias"])
        if not wants_dx:
            return None
        kernel = self.tensors["kernel"]
        dx = self.buffer("dx", (dy.shape[0], kernel.shape[1], dy.shape[-1]), dy.dtype)
        np.matmul(kernel, dy, out=dx)
        return dx.reshape(*dx.shape[:2], *after)


class FlattenRule(LayerRule[Flatten]):
    """(R, C, H, W, N) -> (R, H W C, N), or (R, C, T, N) -> (R, T C, N): the interface counts the
    channel fastest."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if x.ndim == 3:
            return x
        r, c, *places, n = x.shape
        y = self.buffer("y", (r, *places, c, n), x.dtype)
        np.copyto(y, np.moveaxis(x, 1, -2))
        return y.reshape(r, -1, n)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx or len(self.shape) == 1:
            return dy
        *places, c = self.shape
        r, _, n = dy.shape
        dx = self.buffer("dx", (r, c, *places, n), dy.dtype)
        np.copyto(dx, np.moveaxis(dy.reshape(r, *places, c, n), -2, 1))
        return dx
