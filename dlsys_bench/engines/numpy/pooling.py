"""Average and max pooling; windows may overlap."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from dlsys_bench.engines.numpy.convolution import windows
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import AveragePool, GlobalAveragePool, MaxPool

P = TypeVar("P", AveragePool, MaxPool)


class _PoolRule(LayerRule[P]):
    def places(self, x: Array) -> list[Array]:
        """Return for each position in a window the view of x there, (R, C, H', W', N)."""
        out = self.layer.output_shape(self.shape)
        return [x[at] for _, _, at in windows(self.layer.pool_size, self.layer.steps, out)]

    def empty(self, name: str, shape: tuple[int, int], like: Array) -> Array:
        """Return a buffer for images of this height and width."""
        return self.buffer(name, (*like.shape[:2], *shape, like.shape[-1]), like.dtype)

    def cleared_dx(self, dy: Array) -> Array:
        """Return dx, filled with zeros."""
        dx = self.empty("dx", (self.shape[0], self.shape[1]), dy)
        dx.fill(0)
        return dx


class AveragePoolRule(_PoolRule[AveragePool]):
    """y = the mean of each window."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        y = self.empty("y", (ho, wo), x)
        first, *others = self.places(x)
        np.copyto(y, first)
        for other in others:
            y += other
        y *= y.dtype.type(1.0 / (len(others) + 1))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        dx = self.cleared_dx(dy)
        places = self.places(dx)
        dy *= dy.dtype.type(1.0 / len(places))
        for place in places:
            place += dy
        return dx


class GlobalAveragePoolRule(LayerRule[GlobalAveragePool]):
    """y = the mean over all positions."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y (R, C, N) from x (R, C, ..., N)."""
        self.places = x.shape[2:-1]
        y = self.buffer("y", (*x.shape[:2], x.shape[-1]), x.dtype)
        return np.mean(x, axis=tuple(range(2, x.ndim - 1)), out=y)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        dx = self.buffer("dx", (*dy.shape[:2], *self.places, dy.shape[-1]), dy.dtype)
        dy *= dy.dtype.type(1.0 / math.prod(self.places))
        np.copyto(dx, np.expand_dims(dy, tuple(range(2, 2 + len(self.places)))))
        return dx


class MaxPoolRule(_PoolRule[MaxPool]):
    """y = the maximum of each window; of equal values, the first receives the gradient."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        ho, wo, _ = self.layer.output_shape(self.shape)
        y = self.empty("y", (ho, wo), x)
        self.winner = self.buffer("winner", y.shape, np.int32)
        larger = self.buffer("larger", y.shape, np.bool_)
        first, *others = self.places(x)
        np.copyto(y, first)
        self.winner.fill(0)
        for number, other in enumerate(others, start=1):
            np.greater(other, y, out=larger)
            np.copyto(y, other, where=larger)
            np.copyto(self.winner, number, where=larger)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        dx = self.cleared_dx(dy)
        for number, place in enumerate(self.places(dx)):
            np.add(place, dy, out=place, where=self.winner == number)
        return dx
