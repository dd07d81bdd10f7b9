"""Loss and accuracy of a network's outputs, computed in float64 for every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples, Splits
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.targets import answer_weights, kept_answers
from dlsys_bench.errors import DataError, count_of
from dlsys_bench.spec.losses import CrossEntropy, Huber, Loss
from dlsys_bench.spec.recipe import Recipe

SPLITS = ("train", "validation", "test")

Outputs = NDArray[np.float64]
"""One row per sample, (N, K), or per position of each sample, (N, T, K)."""

Answers = NDArray[Any]
"""Labels (N,) or (N, T), signs (N,), or binary targets and values of the shape of the outputs."""


LossFigure = Callable[[Any, Outputs, Answers], float]
"""Returns the loss of a record, of outputs and of targets."""


class Figures(NamedTuple):
    """The mean loss, and the fraction of correct answers; None where the targets are values."""

    loss: float
    accuracy: float | None


def evaluate(outputs: NDArray[Any], samples: Samples, loss: Loss) -> Figures:
    """Return the figures of outputs (N, ...) for the samples, of any dtype.

    Raises DataError unless there is an output for each sample.
    """
    rows = np.asarray(outputs, np.float64)
    if len(rows) != len(samples.y):
        count = count_of(len(samples.y), "sample")
        raise DataError(f"predict returned {count_of(len(rows), 'output')} for {count}")
    return Figures(LOSSES[loss.kind](loss, rows, samples.y), accuracy(rows, samples.y, loss))


def accuracy(outputs: NDArray[Any], y: Answers, loss: Loss) -> float | None:
    """Return the fraction of the answers in outputs (N, ...) that are correct; None where the
    targets are values.

    An ignored label asks for no answer. If all are ignored, the accuracy is zero.
    """
    if loss.targets == "values":
        return None
    if loss.targets == "binary":
        return float(((outputs > 0) == y.reshape(outputs.shape)).mean())
    answers = outputs.argmax(axis=-1) if loss.targets == "labels" else np.sign(outputs[:, 0])
    kept = kept_answers(loss, y) if isinstance(loss, CrossEntropy) else np.ones(len(y), bool)
    return float(((answers == y) & kept).sum()) / (int(kept.sum()) or 1)


def with_figures(
    epoch: Epoch,
    engine: Engine,
    net: Any,
    data: Splits,
    recipe: Recipe,
    splits: Iterable[str] = SPLITS,
) -> Epoch:
    """Return the epoch with the figures of the network on these splits of the data.

    A figure may be non-finite: that is reported by the loss of the next batch.
    """
    figures: dict[str, Any] = {}
    for name in splits:
        split: Samples | None = getattr(data, name)
        if split is not None:
            part = Samples(split.x[: recipe.evaluate], split.y[: recipe.evaluate])
            found = evaluate(engine.predict(net, part.x), part, recipe.loss)
            figures |= {f"{name}_loss": found.loss, f"{name}_accuracy": found.accuracy}
    return replace(epoch, **figures)


def _cross_entropy(loss: CrossEntropy, outputs: Outputs, y: Answers) -> float:
    kept = kept_answers(loss, y)
    labels = np.where(kept, y, 0)[..., None]
    shifted = outputs - outputs.max(axis=-1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=-1))
    right = np.take_along_axis(shifted, labels, axis=-1)[..., 0]
    if not loss.used_options:
        return float((total - right).mean())
    classes, smoothing = outputs.shape[-1], loss.label_smoothing
    weights = np.array(loss.class_weights or (1.0,) * classes)
    own, every = weights[labels[..., 0]], weights
    if loss.weighting == "samples":
        every = own[..., None]
    terms = (1 - smoothing) * own * (total - right)
    terms += smoothing / classes * (every * (total[..., None] - shifted)).sum(axis=-1)
    return float(terms[kept].sum()) / (float(answer_weights(loss, y).sum()) or 1.0)


def _binary_cross_entropy(loss: Loss, outputs: Outputs, y: Answers) -> float:
    over = np.maximum(outputs, 0) - y.reshape(outputs.shape) * outputs
    return float((over + np.log1p(np.exp(-np.abs(outputs)))).T.mean())


def _squared_error(loss: Loss, outputs: Outputs, y: Answers) -> float:
    # Transposed, so that the order of the summation is that of the stored runs.
    return float(np.square(outputs.T - y.T).sum() / outputs.size)


def _half_squared_error(loss: Loss, outputs: Outputs, y: Answers) -> float:
    return float(np.square(outputs.T - y.T).sum() / (2 * len(outputs)))


def _huber(loss: Huber, outputs: Outputs, y: Answers) -> float:
    error = outputs.T - y.T
    inside = np.clip(error, -loss.delta, loss.delta)
    return float((inside * (error - inside / 2)).mean())


def _hinge(margin: float) -> LossFigure:
    return lambda loss, outputs, y: float(np.maximum(margin - y * outputs[:, 0], 0).mean())


LOSSES: dict[str, LossFigure] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "binary_crossentropy": _binary_cross_entropy,
    "mean_squared_error": _squared_error,
    "half_mean_squared_error": _half_squared_error,
    "huber": _huber,
    "perceptron": _hinge(0.0),
    "hinge": _hinge(1.0),
}
