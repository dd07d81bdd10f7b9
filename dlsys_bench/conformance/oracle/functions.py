"""The activation functions by their definitions, for complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softplus(x: Any) -> Any:
    positive = np.where(x.real > 0, x, 0)
    return positive + np.log1p(np.exp(x - 2 * positive))


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


FUNCTIONS: dict[str, Callable[[Any, float], Any]] = {
    "linear": lambda x, slope: x,
    "sigmoid": lambda x, slope: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, slope: np.tanh(x),
    "relu": lambda x, slope: np.where(x.real > 0, x, 0),
    "leaky_relu": lambda x, slope: np.where(x.real > 0, x, slope * x),
    "softmax": lambda x, slope: _softmax(x),
    "elu": lambda x, slope: np.where(x.real > 0, x, np.expm1(np.where(x.real > 0, 0, x))),
    "softplus": lambda x, slope: _softplus(x),
    "silu": lambda x, slope: x / (1 + np.exp(-x)),
    # The error function of scipy takes complex numbers.
    "gelu": lambda x, slope: 0.5 * x * (1 + special.erf(x / np.sqrt(2))),
    "gelu_tanh": lambda x, slope: _gelu_tanh(x),
}
