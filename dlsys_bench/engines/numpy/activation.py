"""Activations: a table of functions, each next to its derivative.

A function computes y from x; a derivative computes dx from y and dy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Activation

ActivationFunction = Callable[[Array, Array, float], object]
ActivationGradient = Callable[[Array, Array, Array, float], object]


def _sigmoid(x: Array, y: Array, slope: float) -> None:
    # As a tanh, which cannot overflow: sigmoid(x) = (1 + tanh(x / 2)) / 2.
    np.multiply(x, x.dtype.type(0.5), out=y)
    np.tanh(y, out=y)
    y += 1
    y *= x.dtype.type(0.5)


def _d_sigmoid(y: Array, dy: Array, dx: Array, slope: float) -> None:
    np.subtract(1, y, out=dx)
    dx *= y
    dx *= dy


def _d_tanh(y: Array, dy: Array, dx: Array, slope: float) -> None:
    np.multiply(y, y, out=dx)
    np.subtract(1, dx, out=dx)
    dx *= dy


def _leaky_relu(x: Array, y: Array, slope: float) -> None:
    np.multiply(x, x.dtype.type(slope), out=y)
    # The slope is at most one, so the larger of x and slope x is the value on both sides of zero.
    np.maximum(x, y, out=y)


def _d_leaky_relu(y: Array, dy: Array, dx: Array, slope: float) -> None:
    np.multiply(dy, dy.dtype.type(slope), out=dx)
    np.copyto(dx, dy, where=y > 0)


def _softmax(x: Array, y: Array, slope: float) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=y)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)


def _d_softmax(y: Array, dy: Array, dx: Array, slope: float) -> None:
    np.multiply(y, dy, out=dx)
    np.subtract(dy, dx.sum(axis=1, keepdims=True), out=dx)
    dx *= y


FUNCTIONS: dict[str, tuple[ActivationFunction, ActivationGradient]] = {
    "linear": (lambda x, y, slope: np.copyto(y, x), lambda y, dy, dx, slope: np.copyto(dx, dy)),
    "sigmoid": (_sigmoid, _d_sigmoid),
    "tanh": (lambda x, y, slope: np.tanh(x, out=y), _d_tanh),
    "relu": (
        lambda x, y, slope: np.maximum(x, 0, out=y),
        lambda y, dy, dx, slope: np.multiply(dy, y > 0, out=dx),
    ),
    "leaky_relu": (_leaky_relu, _d_leaky_relu),
    "softmax": (_softmax, _d_softmax),
}


class ActivationRule(LayerRule[Activation]):
    """y = f(x), from the table above."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        self.y = self.buffer("y", x.shape, x.dtype)
        FUNCTIONS[self.layer.function][0](x, self.y, self.layer.negative_slope)
        return self.y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        dx = self.buffer("dx", dy.shape, dy.dtype)
        FUNCTIONS[self.layer.function][1](self.y, dy, dx, self.layer.negative_slope)
        return dx
