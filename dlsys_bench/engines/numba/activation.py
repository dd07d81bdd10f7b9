"""The derivatives of the activations in one pass. The numpy engine documents the computation."""

from __future__ import annotations

import numpy as np

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.plan import Array


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


class FusedActivationRule(ActivationRule):
    """Activations whose backward pass is compiled."""

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not wants_dx or self.layer.function not in BACKWARD:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        slope = self.layer.negative_slope if self.layer.function == "leaky_relu" else 0.0
        BACKWARD[self.layer.function](self.y.reshape(-1), dy.reshape(-1), slope)
        return dy
