"""Average and max pooling, window by window. The numpy engine documents the computation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy.pooling import AveragePoolRule, MaxPoolRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import IntPair


@kernel
def average(x: Array, size: IntPair, steps: IntPair, y: Array) -> None:
    """Compute y (G, H', W', N), the mean of each window of x (G, H, W, N)."""
    part = y.dtype.type(1.0 / (size[0] * size[1]))
    for g in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                pooled = y[g, i, j]
                for n in range(y.shape[3]):
                    pooled[n] = 0
                for a in range(size[0]):
                    for b in range(size[1]):
                        values = x[g, i * steps[0] + a, j * steps[1] + b]
                        for n in range(y.shape[3]):
                            pooled[n] += values[n] * part


@kernel
def average_back(dy: Array, size: IntPair, steps: IntPair, dx: Array) -> None:
    """Add the gradient of each window to dx, or write it there if the windows do not overlap."""
    disjoint = size == steps
    part = dy.dtype.type(1.0 / (size[0] * size[1]))
    for g in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                pooled = dy[g, i, j]
                for a in range(size[0]):
                    for b in range(size[1]):
                        values = dx[g, i * steps[0] + a, j * steps[1] + b]
                        if disjoint:
                            for n in range(dy.shape[3]):
                                values[n] = pooled[n] * part
                        else:
                            for n in range(dy.shape[3]):
                                values[n] += pooled[n] * part


@kernel
def maximum(x: Array, size: IntPair, steps: IntPair, winner: NDArray[np.int32], y: Array) -> None:
    """Compute y (G, H', W', N), the maximum of each window of x (G, H, W, N), and which of its
    values is the first that is the maximum."""
    for g in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                best, where = y[g, i, j], winner[g, i, j]
                first = x[g, i * steps[0], j * steps[1]]
                for n in range(y.shape[3]):
                    best[n] = first[n]
                    where[n] = 0
                for number in range(1, size[0] * size[1]):
                    a, b = number // size[1], number % size[1]
                    values = x[g, i * steps[0] + a, j * steps[1] + b]
                    for n in range(y.shape[3]):
                        larger = values[n] > best[n]
                        best[n] = values[n] if larger else best[n]
                        where[n] = number if larger else where[n]


@kernel
def maximum_back(
    dy: Array, size: IntPair, steps: IntPair, winner: NDArray[np.int32], dx: Array
) -> None:
    """Compute dx, to which each window adds its gradient at its maximum."""
    zero = dy.dtype.type(0)
    dx[:] = 0
    for g in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                back, where = dy[g, i, j], winner[g, i, j]
                for number in range(size[0] * size[1]):
                    a, b = number // size[1], number % size[1]
                    values = dx[g, i * steps[0] + a, j * steps[1] + b]
                    for n in range(dy.shape[3]):
                        values[n] += back[n] if where[n] == number else zero


class FusedAveragePoolRule(AveragePoolRule):
    """Average pooling in compiled passes."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        y = self.empty("y", (ho, wo), x)
        average(flat_images(x), self.layer.pool_size, self.layer.steps, flat_images(y))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        h, w, _ = self.shape
        dx = self.empty("dx", (h, w), dy)
        if (
            self.layer.steps != self.layer.pool_size
            or h % self.layer.steps[0]
            or w % self.layer.steps[1]
        ):
            dx.fill(0)
        average_back(flat_images(dy), self.layer.pool_size, self.layer.steps, flat_images(dx))
        return dx


class FusedMaxPoolRule(MaxPoolRule):
    """Max pooling in compiled passes."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        y = self.empty("y", (ho, wo), x)
        self.winner = self.buffer("winner", y.shape, np.int32)
        sizes = self.layer.pool_size, self.layer.steps
        maximum(flat_images(x), *sizes, flat_images(self.winner), flat_images(y))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        h, w, _ = self.shape
        dx = self.empty("dx", (h, w), dy)
        sizes = self.layer.pool_size, self.layer.steps
        maximum_back(flat_images(dy), *sizes, flat_images(self.winner), flat_images(dx))
        return dx


def flat_images(x: NDArray[Any]) -> NDArray[Any]:
    """Return (R, C, H, W, N) as a contiguous array (R C, H, W, N)."""
    return np.ascontiguousarray(x).reshape(-1, *x.shape[2:])
