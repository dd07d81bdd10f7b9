"""Activations: a table of functions, each next to its derivative.

A function computes y from x; a derivative computes dx from y, or from x, and dy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

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


def _elu(x: Array, y: Array, slope: float) -> None:
    np.minimum(x, 0, out=y)
    np.expm1(y, out=y)
    np.copyto(y, x, where=x > 0)


def _d_elu(y: Array, dy: Array, dx: Array, slope: float) -> None:
    np.add(y, 1, out=dx)
    np.minimum(dx, 1, out=dx)
    dx *= dy


def _softplus(x: Array, y: Array, slope: float) -> None:
    np.logaddexp(x, 0, out=y)


def _d_softplus(y: Array, dy: Array, dx: Array, slope: float) -> None:
    # The sigmoid of x, 1 - exp(-y).
    np.negative(y, out=dx)
    np.expm1(dx, out=dx)
    np.negative(dx, out=dx)
    dx *= dy


def _silu(x: Array, y: Array, slope: float) -> None:
    _sigmoid(x, y, slope)
    y *= x


def _d_silu(x: Array, dy: Array, dx: Array, slope: float) -> None:
    # With s the sigmoid of x: s + x s (1 - s).
    s = np.empty_like(x)
    _sigmoid(x, s, slope)
    np.subtract(1, s, out=dx)
    dx *= x
    dx += 1
    dx *= s
    dx *= dy


def _gelu(x: Array, y: Array, slope: float) -> None:
    np.multiply(x, special.ndtr(x), out=y)


def _d_gelu(x: Array, dy: Array, dx: Array, slope: float) -> None:
    density = np.exp(x * x * x.dtype.type(-0.5)) * x.dtype.type(1 / math.sqrt(2 * math.pi))
    np.add(special.ndtr(x), x * density, out=dx)
    dx *= dy


GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
"""The constants of the approximation of gelu by a tanh."""


def _tanh_in_gelu(x: Array, tanh: Array) -> None:
    # Powers by products: numpy takes any other than the square twenty times as slowly.
    np.multiply(x, x, out=tanh)
    tanh *= x.dtype.type(GELU_CUBE)
    tanh += 1
    tanh *= x
    tanh *= x.dtype.type(GELU_SCALE)
    np.tanh(tanh, out=tanh)


def _gelu_tanh(x: Array, y: Array, slope: float) -> None:
    _tanh_in_gelu(x, y)
    y += 1
    y *= x
    y *= x.dtype.type(0.5)


def _d_gelu_tanh(x: Array, dy: Array, dx: Array, slope: float) -> None:
    # With t the tanh and u its argument: (1 + t + x (1 - t^2) du/dx) / 2.
    tanh = np.empty_like(x)
    _tanh_in_gelu(x, tanh)
    np.multiply(x, x, out=dx)
    dx *= x.dtype.type(3 * GELU_CUBE * GELU_SCALE)
    dx += x.dtype.type(GELU_SCALE)
    dx *= x
    tanh += 1
    dx *= 2 - tanh
    dx += 1
    dx *= tanh
    dx *= dy
    dx *= x.dtype.type(0.5)


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
    "elu": (_elu, _d_elu),
    "softplus": (_softplus, _d_softplus),
    "silu": (_silu, _d_silu),
    "gelu": (_gelu, _d_gelu),
    "gelu_tanh": (_gelu_tanh, _d_gelu_tanh),
}

OF_X = ("silu", "gelu", "gelu_tanh")
"""The functions whose derivative is computed from x: several x have the same y."""


class ActivationRule(LayerRule[Activation]):
    """y = f(x), from the table above."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        self.x = x
        self.y = self.buffer("y", x.shape, x.dtype)
        FUNCTIONS[self.layer.function][0](x, self.y, self.layer.negative_slope)
        return self.y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx:
            return None
        dx = self.buffer("dx", dy.shape, dy.dtype)
        values = self.x if self.layer.function in OF_X else self.y
        FUNCTIONS[self.layer.function][1](values, dy, dx, self.layer.negative_slope)
        return dx
