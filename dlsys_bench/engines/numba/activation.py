"""The activations in one pass. The numpy engine documents the computation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import special

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.program.functions import exp, expm1, sigmoid
from dlsys_bench.engines.numba.program.functions import tanh as tanh_of
from dlsys_bench.engines.numba.program.lanes import LANES, choose, like, load, store
from dlsys_bench.engines.numba.vectors import padded
from dlsys_bench.engines.numpy.activation import GELU_CUBE, GELU_SCALE, ActivationRule
from dlsys_bench.engines.plan import Array

DENSITY = 1 / math.sqrt(2 * math.pi)
"""The density of the normal distribution at zero."""


@kernel
def d_tanh(y: Array, dy: Array, slope: float) -> None:
    """Overwrite dy with dy (1 - y^2)."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dy[i] *= one - y[i] * y[i]


@kernel
def d_sigmoid(y: Array, dy: Array, slope: float) -> None:
    """Overwrite dy with dy y (1 - y)."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dy[i] *= y[i] * (one - y[i])


@kernel
def relu(x: Array, y: Array) -> None:
    """Compute y, which is NaN where x is."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= 0 else x[i]


@kernel
def d_leaky_relu(y: Array, dy: Array, slope: float) -> None:
    """Overwrite dy with slope dy where y is not positive."""
    times = y.dtype.type(slope)
    for i in range(y.size):
        dy[i] = dy[i] if y[i] > 0 else dy[i] * times


BACKWARD = {
    "tanh": d_tanh,
    "sigmoid": d_sigmoid,
    "relu": d_leaky_relu,
    "leaky_relu": d_leaky_relu,
}


@kernel
def elu(x: Array, factor: Array, y: Array) -> None:
    """Compute y, and exp(x) - 1 where x is not positive, else 0."""
    for at in range(0, x.size, LANES):
        value = load(x, at)
        below = choose(value, like(value, 0.0), expm1(value))
        store(factor, at, below)
        store(y, at, choose(value, value, below))


@kernel
def d_elu(x: Array, factor: Array, dy: Array) -> None:
    """Overwrite dy with dx."""
    for at in range(0, x.size, LANES):
        below = load(factor, at)
        store(dy, at, load(dy, at) * (below + like(below, 1.0)))


@kernel
def silu(x: Array, factor: Array, y: Array) -> None:
    """Compute y and sigmoid(x)."""
    for at in range(0, x.size, LANES):
        value = load(x, at)
        of_value = sigmoid(value)
        store(factor, at, of_value)
        store(y, at, value * of_value)


@kernel
def d_silu(x: Array, factor: Array, dy: Array) -> None:
    """Overwrite dy with dx."""
    for at in range(0, x.size, LANES):
        value, of_value = load(x, at), load(factor, at)
        slope = of_value + value * of_value * (like(value, 1.0) - of_value)
        store(dy, at, load(dy, at) * slope)


@kernel
def gelu_tanh(x: Array, factor: Array, y: Array) -> None:
    """Compute y and the tanh of which it is a function."""
    for at in range(0, x.size, LANES):
        value = load(x, at)
        cube = value * value * like(value, GELU_SCALE * GELU_CUBE)
        of_value = tanh_of(value * (cube + like(value, GELU_SCALE)))
        store(factor, at, of_value)
        store(y, at, value * like(value, 0.5) * (of_value + like(value, 1.0)))


@kernel
def d_gelu_tanh(x: Array, factor: Array, dy: Array) -> None:
    """Overwrite dy with dx."""
    for at in range(0, x.size, LANES):
        value, of_value = load(x, at), load(factor, at)
        one, cube = like(value, 1.0), like(value, 3 * GELU_SCALE * GELU_CUBE)
        inner = value * (value * value * cube + like(value, GELU_SCALE))
        slope = like(value, 0.5) * (one + of_value) * (one + inner * (one - of_value))
        store(dy, at, load(dy, at) * slope)


def gelu(x: Array, factor: Array, y: Array) -> None:
    """Compute y and the normal distribution function of x."""
    special.ndtr(x, out=factor)
    np.multiply(x, factor, out=y)


@kernel
def d_gelu(x: Array, factor: Array, dy: Array) -> None:
    """Overwrite dy with dx."""
    for at in range(0, x.size, LANES):
        value = load(x, at)
        density = exp(value * value * like(value, -0.5)) * like(value, DENSITY)
        store(dy, at, load(dy, at) * (load(factor, at) + value * density))


class Smooth(NamedTuple):
    """A function of flat arrays of whole vectors, which keeps a factor for its derivative."""

    forward: Callable[[Array, Array, Array], None]
    backward: Callable[[Array, Array, Array], None]


SMOOTH = {
    "elu": Smooth(elu, d_elu),
    "silu": Smooth(silu, d_silu),
    "gelu": Smooth(gelu, d_gelu),
    "gelu_tanh": Smooth(gelu_tanh, d_gelu_tanh),
}


class FusedActivationRule(ActivationRule):
    """Activations in one compiled pass: both of a function of SMOOTH, and else the backward one."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if self.layer.function == "relu":
            self.y = self.buffer("y", x.shape, x.dtype)
            relu(np.ascontiguousarray(x).reshape(-1), self.y.reshape(-1))
            return self.y
        if self.layer.function not in SMOOTH:
            return super().forward(x, training)
        self.x = padded(partial(self.buffer, "x"), x.reshape(-1))
        self.factor, self.y = (self.buffer(name, self.x.shape, x.dtype) for name in ("factor", "y"))
        SMOOTH[self.layer.function].forward(self.x, self.factor, self.y)
        return self.y[: x.size].reshape(x.shape)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        name = self.layer.function
        if wants_dx and name in SMOOTH:
            flat = padded(partial(self.buffer, "dx"), dy.reshape(-1))
            SMOOTH[name].backward(self.x, self.factor, flat)
            return flat[: dy.size].reshape(dy.shape)
        if not wants_dx or name not in BACKWARD:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        slope = self.layer.negative_slope if name == "leaky_relu" else 0.0
        BACKWARD[name](self.y.reshape(-1), dy.reshape(-1), slope)
        return dy
