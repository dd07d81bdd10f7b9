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
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.recipe import Recipe

SPLITS = ("train", "validation", "test")

Outputs = NDArray[np.float64]
"""One row per sample, (N, K)."""

Answers = NDArray[Any]
"""Labels or signs (N,), or values (N, K)."""


class Figures(NamedTuple):
    """The mean loss, and the fraction of correct answers; None where the targets are values."""

    loss: float
    accuracy: float | None


def evaluate(outputs: NDArray[Any], samples: Samples, loss: Loss) -> Figures:
    """Return the figures of outputs (N, K) for the samples, of any dtype."""
    rows = np.asarray(outputs, np.float64)
    return Figures(LOSSES[loss.kind](rows, samples.y), accuracy(rows, samples.y, loss))


def accuracy(outputs: NDArray[Any], y: Answers, loss: Loss) -> float | None:
    """Return the fraction of outputs (N, K) that are correct; None where the targets are values."""
    if loss.targets == "values":
        return None
    answers = outputs.argmax(axis=1) if loss.targets == "labels" else np.sign(outputs[:, 0])
    return float((answers == y).sum()) / len(y)


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


def _cross_entropy(outputs: Outputs, y: Answers) -> float:
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1)
    return float((np.log(total) - shifted[np.arange(len(y)), y]).mean())


def _squared_error(outputs: Outputs, y: Answers) -> float:
    # Transposed, so that the order of the summation is that of the stored runs.
    return float(np.square(outputs.T - y.T).sum() / outputs.size)


def _half_squared_error(outputs: Outputs, y: Answers) -> float:
    return float(np.square(outputs.T - y.T).sum() / (2 * len(outputs)))


def _hinge(margin: float) -> Callable[[Outputs, Answers], float]:
    return lambda outputs, y: float(np.maximum(margin - y * outputs[:, 0], 0).mean())


LOSSES: dict[str, Callable[[Outputs, Answers], float]] = {
    "categorical_crossentropy": _cross_entropy,
    "sparse_categorical_crossentropy": _cross_entropy,
    "mean_squared_error": _squared_error,
    "half_mean_squared_error": _half_squared_error,
    "perceptron": _hinge(0.0),
    "hinge": _hinge(1.0),
}
