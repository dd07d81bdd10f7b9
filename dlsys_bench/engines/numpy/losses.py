"""The losses: the value of each replica, and its gradient in the outputs (R, K, N)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.losses import Loss

LossTargets = NDArray[Any]
"""Labels or signs (R, N), or values (R, K, N)."""


def _cross_entropy(outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    picked = y[:, None, :].astype(np.intp, copy=False)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    d = np.exp(shifted)
    total = d.sum(axis=1, keepdims=True)
    value = (np.log(total) - np.take_along_axis(shifted, picked, axis=1)).mean(axis=(1, 2))
    d /= total
    np.put_along_axis(d, picked, np.take_along_axis(d, picked, axis=1) - 1, axis=1)
    d /= outputs.shape[-1]
    return value, d


def _squared_error(outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    d = outputs - y
    count = d.shape[1] * d.shape[2]
    return (d * d).sum(axis=(1, 2)) / count, d * (2.0 / count)


def _half_squared_error(outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    d = outputs - y
    return (d * d).sum(axis=(1, 2)) / (2 * d.shape[2]), d / d.shape[2]


def _margin(margin: float) -> Callable[[Array, LossTargets], tuple[Array, Array]]:
    def loss(outputs: Array, y: LossTargets) -> tuple[Array, Array]:
        signs = y[:, None, :]
        short = margin - signs * outputs
        return np.maximum(short, 0).mean(axis=(1, 2)), np.where(
            short > 0, -signs, 0
        ) / outputs.shape[-1]

    return loss


LOSSES: dict[str, Callable[[Array, LossTargets], tuple[Array, Array]]] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "mean_squared_error": _squared_error,
    "half_mean_squared_error": _half_squared_error,
    "perceptron": _margin(0.0),
    "hinge": _margin(1.0),
}


def value_and_gradient(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    """Return the loss (R,) and its gradient in the outputs (R, K, N), of the dtype of the
    outputs."""
    value, d = LOSSES[loss.kind](outputs, y)
    return value, d.astype(outputs.dtype, copy=False)


def count_correct(loss: Loss, outputs: Array, y: LossTargets) -> NDArray[Any] | None:
    """Return the number of correct answers of each replica (R,), or None if targets are values."""
    if loss.targets == "values":
        return None
    given = outputs.argmax(axis=1) if loss.targets == "labels" else np.sign(outputs[:, 0])
    right: NDArray[Any] = (given == y).sum(axis=-1)
    return right


def evaluate_loss(
    loss: Loss, outputs: Array, y: LossTargets
) -> tuple[Array, Array, NDArray[Any] | None]:
    """Return the loss, its gradient in the outputs, and the number of correct answers."""
    return *value_and_gradient(loss, outputs, y), count_correct(loss, outputs, y)
