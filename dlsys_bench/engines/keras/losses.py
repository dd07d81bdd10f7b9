# mypy: disallow-subclassing-any=False
"""Keras's losses and accuracies. This module imports keras, so it is imported only after an engine
has started its backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from dlsys_bench.spec import losses


class _OfRawOutputs:
    """Computes the loss of the outputs as they are.

    With TensorFlow, Keras checks whether outputs come from a softmax or a sigmoid, and if so
    computes the cross-entropy of its inputs instead. A copy hides where the outputs come from.
    """

    def call(self, y: Any, outputs: Any) -> Any:
        """Compute the loss of each answer."""
        return super().call(y, keras.ops.copy(outputs))  # type: ignore[misc]


class CategoricalCrossentropy(_OfRawOutputs, keras.losses.CategoricalCrossentropy):
    """Keras's loss, of the outputs as they are."""


class SparseCategoricalCrossentropy(_OfRawOutputs, keras.losses.SparseCategoricalCrossentropy):
    """Keras's loss, of the outputs as they are."""


class BinaryCrossentropy(_OfRawOutputs, keras.losses.BinaryCrossentropy):
    """Keras's loss, of the outputs as they are."""


class WeightedCrossEntropy(_OfRawOutputs, keras.losses.CategoricalCrossentropy):
    """Keras's cross-entropy of one-hot labels with smoothing, a mean over the labels kept.

    It joins what Keras offers apart: only its sparse loss ignores labels, and only the other one
    smooths them; weights of classes are an argument of `fit`. An ignored label is a row of zeros.
    """

    def __init__(self, loss: losses.CrossEntropy, dtype: str) -> None:
        super().__init__(
            from_logits=True,
            label_smoothing=loss.label_smoothing,
            reduction=None,
            name="cross_entropy",
            dtype=dtype,
        )
        self.weights = loss.class_weights

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the mean loss."""
        every, kept = super().__call__(y_true, y_pred), keras.ops.sum(y_true, axis=-1)
        weights = kept
        if self.weights is not None:
            weights = keras.ops.sum(y_true * np.array(self.weights, self.dtype), axis=-1)
        # The loss of smoothed zeros is not zero.
        return keras.ops.sum(every * weights) / keras.ops.maximum(keras.ops.sum(kept), 1)


class SparseWeightedCrossEntropy(WeightedCrossEntropy):
    """The same for labels that are ints."""

    def __init__(self, loss: losses.CrossEntropy, dtype: str) -> None:
        super().__init__(loss, dtype)
        self.ignored_label = loss.ignored_label

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the mean loss."""
        one_hot = keras.ops.one_hot(y_true, y_pred.shape[-1], dtype=self.dtype)
        if self.ignored_label is not None:
            kept = keras.ops.cast(keras.ops.not_equal(y_true, self.ignored_label), self.dtype)
            one_hot = one_hot * kept[..., None]
        return super().__call__(one_hot, y_pred)


class HalfSquaredError(keras.losses.Loss):
    """Half the sum of the squared errors of the outputs of a sample."""

    def call(self, y: Any, outputs: Any) -> Any:
        """Compute the loss of each sample."""
        return (
            keras.ops.sum(keras.ops.square(outputs - y), axis=tuple(range(1, len(outputs.shape))))
            / 2
        )


class Margin(keras.losses.Loss):
    """max(0, margin - y output), y (N, 1), with a slope of zero where it just reaches zero."""

    def __init__(self, margin: float, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.margin = margin

    def call(self, y: Any, outputs: Any) -> Any:
        """Compute the loss of each sample."""
        return keras.ops.relu(self.margin - y * outputs)[:, 0]


class KeptAccuracy(keras.metrics.Mean):
    """The fraction of the labels kept, ints or one-hot, that the largest output predicts."""

    def __init__(self, loss: losses.CrossEntropy, dtype: str) -> None:
        super().__init__("accuracy", dtype)
        self.ignored_label = loss.ignored_label

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the answers of a batch."""
        if len(y_true.shape) == len(y_pred.shape):
            labels, kept = keras.ops.argmax(y_true, axis=-1), keras.ops.sum(y_true, axis=-1)
        else:
            labels, kept = y_true, keras.ops.not_equal(y_true, self.ignored_label)
        right = keras.ops.equal(labels, keras.ops.argmax(y_pred, axis=-1))
        super().update_state(right, keras.ops.cast(kept, self.dtype))


def _sign_accuracy(y: Any, outputs: Any) -> Any:
    return keras.ops.equal(y, keras.ops.sign(outputs))


# Without a dtype, losses and metrics compute in keras's floatx.
LOSSES: dict[type[losses.Loss], Callable[[Any, str], Any]] = {
    losses.CategoricalCrossEntropy: lambda loss, dtype: (
        WeightedCrossEntropy(loss, dtype)
        if loss.is_weighted
        else CategoricalCrossentropy(
            from_logits=True, label_smoothing=loss.label_smoothing, dtype=dtype
        )
    ),
    losses.SparseCategoricalCrossEntropy: lambda loss, dtype: (
        SparseWeightedCrossEntropy(loss, dtype)
        if loss.used_options
        else SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)
    ),
    losses.BinaryCrossEntropy: lambda loss, dtype: BinaryCrossentropy(
        from_logits=True, dtype=dtype
    ),
    losses.MeanSquaredError: lambda loss, dtype: keras.losses.MeanSquaredError(dtype=dtype),
    losses.HalfMeanSquaredError: lambda loss, dtype: HalfSquaredError(dtype=dtype),
    losses.Huber: lambda loss, dtype: keras.losses.Huber(loss.delta, dtype=dtype),
    losses.PerceptronCriterion: lambda loss, dtype: Margin(0.0, dtype),
    losses.Hinge: lambda loss, dtype: Margin(1.0, dtype),
}

ACCURACIES: dict[type[losses.Loss], Callable[[str], Any]] = {
    losses.CategoricalCrossEntropy: lambda dtype: keras.metrics.CategoricalAccuracy(
        "accuracy", dtype
    ),
    losses.SparseCategoricalCrossEntropy: lambda dtype: keras.metrics.SparseCategoricalAccuracy(
        "accuracy", dtype
    ),
    losses.BinaryCrossEntropy: lambda dtype: keras.metrics.BinaryAccuracy(
        "accuracy", dtype, threshold=0.0
    ),
    losses.PerceptronCriterion: lambda dtype: keras.metrics.MeanMetricWrapper(
        _sign_accuracy, "accuracy", dtype
    ),
    losses.Hinge: lambda dtype: keras.metrics.MeanMetricWrapper(_sign_accuracy, "accuracy", dtype),
}


def loss_of(loss: losses.Loss, dtype: str) -> Any:
    """Create Keras's loss."""
    return LOSSES[type(loss)](loss, dtype)


def accuracy_of(loss: losses.Loss, dtype: str) -> Any:
    """Create Keras's accuracy of a loss, None if it has none."""
    if isinstance(loss, losses.CrossEntropy) and loss.ignored_label is not None:
        return KeptAccuracy(loss, dtype)
    create = ACCURACIES.get(type(loss))
    return create and create(dtype)
