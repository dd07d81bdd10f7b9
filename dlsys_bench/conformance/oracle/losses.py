"""Every loss by its definition, for P sets of outputs at once, and the answers that are correct.

Outputs are (P, N, ...) and complex: comparisons use the real parts, and the imaginary parts carry
the derivatives. Targets are those of the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.oracle.forward import ComplexArray, definition
from dlsys_bench.spec import losses

Targets = NDArray[Any]


def _cross_entropy(loss: losses.CrossEntropy, outputs: ComplexArray, y: Targets) -> ComplexArray:
    largest = outputs.real.max(axis=-1, keepdims=True)
    logs = outputs - largest - np.log(np.exp(outputs - largest).sum(axis=-1, keepdims=True))
    classes = outputs.shape[-1]
    one_hot = y[..., None] == np.arange(classes)
    targets = (1 - loss.label_smoothing) * one_hot + loss.label_smoothing / classes
    by_class = np.array(loss.class_weights or [1.0] * classes)
    of_label = (by_class * one_hot).sum(axis=-1)
    if loss.weighting == "samples":
        terms = of_label * -(targets * logs).sum(axis=-1)
    else:
        terms = -(by_class * targets * logs).sum(axis=-1)
    kept = np.where(y == loss.ignored_label, 0, terms)
    return kept.sum(axis=tuple(range(1, kept.ndim))) / (divisor(loss, y) or 1)


def _softplus(x: ComplexArray) -> ComplexArray:
    side = np.where(x.real > 0, 1, -1)
    return np.where(x.real > 0, x, 0) + np.log1p(np.exp(-side * x))


def _binary_cross_entropy(loss: losses.Loss, outputs: ComplexArray, y: Targets) -> ComplexArray:
    t = y.reshape(outputs.shape[1:])
    terms = t * _softplus(-outputs) + (1 - t) * _softplus(outputs)
    return terms.mean(axis=tuple(range(1, terms.ndim)))


def _squared_error(loss: losses.Loss, outputs: ComplexArray, y: Targets) -> ComplexArray:
    return ((outputs - y) ** 2).mean(axis=tuple(range(1, outputs.ndim)))


def _half_squared_error(loss: losses.Loss, outputs: ComplexArray, y: Targets) -> ComplexArray:
    return ((outputs - y) ** 2).sum(axis=tuple(range(1, outputs.ndim))) / (2 * len(y))


def _huber(loss: losses.Huber, outputs: ComplexArray, y: Targets) -> ComplexArray:
    error = outputs - y
    size = np.where(error.real < 0, -error, error)
    beyond = loss.delta * (size - loss.delta / 2)
    terms = np.where(size.real <= loss.delta, error**2 / 2, beyond)
    return terms.mean(axis=tuple(range(1, terms.ndim)))


def _margin(margin: float) -> Callable[[Any, ComplexArray, Targets], ComplexArray]:
    def loss(record: losses.Loss, outputs: ComplexArray, y: Targets) -> ComplexArray:
        short = margin - y * outputs[..., 0]
        return np.where(short.real > 0, short, 0).mean(axis=-1)

    return loss


LOSSES: dict[str, Callable[[Any, ComplexArray, Targets], ComplexArray]] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "binary_crossentropy": _binary_cross_entropy,
    "mean_squared_error": _squared_error,
    "half_mean_squared_error": _half_squared_error,
    "huber": _huber,
    "perceptron": _margin(0.0),
    "hinge": _margin(1.0),
}


def loss_value(loss: losses.Loss, outputs: ComplexArray, y: Targets) -> ComplexArray:
    """Return the loss (P,) of outputs (P, N, ...)."""
    return definition(LOSSES, loss)(loss, outputs, y)


def divisor(loss: losses.Loss, y: Targets) -> float:
    """Return what the sum of a mean loss is divided by: the number of samples or of labels kept, or
    the sum of the weights of the labels kept."""
    if not isinstance(loss, losses.CrossEntropy):
        return len(y)
    kept = [label for label in y.ravel().tolist() if label != loss.ignored_label]
    if loss.class_weights is None or loss.weighting == "samples":
        return len(kept)
    return float(sum(loss.class_weights[label] for label in kept))


def count_answers(
    loss: losses.Loss, outputs: ComplexArray, y: Targets
) -> tuple[float, float] | None:
    """Return how many answers of outputs (N, ...) are correct, and of how many; None for a loss of
    values.

    The prediction is the first of the largest outputs, the sign of the only one, or 1 for each that
    is above zero. An ignored label is no answer.
    """
    if loss.targets == "values":
        return None
    if loss.targets == "binary":
        return float(((outputs > 0) == y.reshape(outputs.shape)).sum()), y.size
    predicted = outputs.argmax(axis=-1) if loss.targets == "labels" else np.sign(outputs[:, 0])
    kept = y != getattr(loss, "ignored_label", None)
    return float(((predicted == y) & kept).sum()), float(np.sum(kept))
