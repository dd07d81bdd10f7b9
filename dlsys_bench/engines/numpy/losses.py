"""The losses: the value of each replica, and its gradient in the outputs (R, K, N)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.plan import Array
from dlsys_bench.engines.targets import answer_weights, kept_answers
from dlsys_bench.spec.losses import CrossEntropy, Huber, Loss

LossTargets = NDArray[Any]
"""Labels (R, ..., N), signs (R, N), or values and binary targets of the shape of the outputs; in
place of R, 1 for targets that all replicas share."""

NumpyLoss = Callable[[Any, Array, LossTargets], tuple[Array, Array]]


def _cross_entropy(loss: CrossEntropy, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    if loss.used_options:
        return _cross_entropy_with_options(loss, outputs, y)
    picked = y[:, None].astype(np.intp, copy=False)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    d = np.exp(shifted)
    total = d.sum(axis=1, keepdims=True)
    value = (np.log(total) - np.take_along_axis(shifted, picked, axis=1)).mean(axis=_over(shifted))
    d /= total
    np.put_along_axis(d, picked, np.take_along_axis(d, picked, axis=1) - 1, axis=1)
    d /= math.prod(outputs.shape[2:])
    return value, d


def _cross_entropy_with_options(
    loss: CrossEntropy, outputs: Array, y: LossTargets
) -> tuple[Array, Array]:
    """Compute -sum(t log p) / divisor, in which the targets t contain the options. Its gradient is
    (p sum(t) - t) / divisor, with the sum over the classes."""
    kept, labels = kept_answers(loss, y)[:, None], np.where(kept_answers(loss, y), y, 0)[:, None]
    targets = np.full(outputs.shape, loss.label_smoothing / outputs.shape[1], outputs.dtype)
    right = np.take_along_axis(targets, labels, axis=1) + 1 - loss.label_smoothing
    np.put_along_axis(targets, labels, right, axis=1)
    if loss.class_weights is not None:
        weights = np.array(loss.class_weights, outputs.dtype)
        by_class = weights.reshape(-1, *(1 for _ in outputs.shape[2:]))
        targets *= weights[labels] if loss.weighting == "samples" else by_class
    targets *= kept
    divisors = total_weight(loss, y).astype(outputs.dtype)
    divisors = np.where(divisors > 0, divisors, 1)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    d = np.exp(shifted)
    total = d.sum(axis=1, keepdims=True)
    value = (targets * (np.log(total) - shifted)).sum(axis=_over(shifted)) / divisors
    d *= targets.sum(axis=1, keepdims=True) / total
    d -= targets
    d /= divisors.reshape(-1, *(1 for _ in outputs.shape[1:]))
    return value, d


def _binary_cross_entropy(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    # Neither exponential overflows, because its argument is never positive.
    small = np.exp(-np.abs(outputs))
    value = np.maximum(outputs, 0) - y * outputs + np.log1p(small)
    sigmoid = np.where(outputs >= 0, 1, small) / (1 + small)
    return value.mean(axis=_over(value)), (sigmoid - y) / math.prod(outputs.shape[1:])


def _squared_error(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    d = outputs - y
    count = math.prod(d.shape[1:])
    return (d * d).sum(axis=_over(d)) / count, d * (2.0 / count)


def _half_squared_error(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    d = outputs - y
    return (d * d).sum(axis=_over(d)) / (2 * d.shape[-1]), d / d.shape[-1]


def _huber(loss: Huber, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    error = outputs - y
    d = np.clip(error, -loss.delta, loss.delta)
    return (d * (error - d / 2)).mean(axis=_over(d)), d / math.prod(d.shape[1:])


def _margin(margin: float) -> NumpyLoss:
    def compute(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
        signs = y[:, None, :]
        short = margin - signs * outputs
        return np.maximum(short, 0).mean(axis=(1, 2)), np.where(
            short > 0, -signs, 0
        ) / outputs.shape[-1]

    return compute


def _over(values: NDArray[Any]) -> tuple[int, ...]:
    """Return every axis but that of the replicas."""
    return tuple(range(1, values.ndim))


LOSSES: dict[str, NumpyLoss] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "mean_squared_error": _squared_error,
    "half_mean_squared_error": _half_squared_error,
    "perceptron": _margin(0.0),
    "hinge": _margin(1.0),
    "binary_crossentropy": _binary_cross_entropy,
    "huber": _huber,
}


def value_and_gradient(loss: Loss, outputs: Array, y: LossTargets) -> tuple[Array, Array]:
    """Return the loss (R,) and its gradient in the outputs (R, K, N), of the dtype of the
    outputs."""
    value, d = LOSSES[loss.kind](loss, outputs, y)
    return value, d.astype(outputs.dtype, copy=False)


def count_correct(loss: Loss, outputs: Array, y: LossTargets) -> NDArray[Any] | None:
    """Return the number of correct answers of each replica (R,), or None if targets are values."""
    if loss.targets == "values":
        return None
    right = _answers(loss, outputs) == y
    if isinstance(loss, CrossEntropy):
        right &= kept_answers(loss, y)
    found: NDArray[Any] = right.sum(axis=_over(right))
    return found


def _answers(loss: Loss, outputs: Array) -> NDArray[Any]:
    """Return what outputs (R, K, ..., N) predict, in the form of the targets."""
    if loss.targets == "labels":
        labels: NDArray[Any] = outputs.argmax(axis=1)
        return labels
    return np.sign(outputs[:, 0]) if loss.targets == "signs" else outputs > 0


def evaluate_loss(
    loss: Loss, outputs: Array, y: LossTargets
) -> tuple[Array, Array, NDArray[Any] | None]:
    """Return the loss, its gradient in the outputs, and the number of correct answers."""
    if loss.targets == "binary":
        y = y.reshape(-1, *outputs.shape[1:])  # Those of one output may be (R, N).
    return *value_and_gradient(loss, outputs, y), count_correct(loss, outputs, y)


def total_weight(loss: Loss, y: LossTargets) -> Array:
    """Return the divisor (R,) of the mean loss of targets (R, ..., N): the number of samples, or
    the sum of the weights of their answers."""
    if isinstance(loss, CrossEntropy):
        weights: Array = answer_weights(loss, y).sum(axis=_over(y))
        return weights
    return np.full(len(y), float(y.shape[-1]))
