"""The losses, and the number of correct answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dlsys_bench.spec import losses


def _categorical(loss: losses.CrossEntropy, outputs: Array, y: Array) -> Array:
    if loss.used_options:
        return _with_options(loss, outputs, y)
    one_hot = jax.nn.one_hot(y, outputs.shape[-1], dtype=outputs.dtype)
    return -(one_hot * jax.nn.log_softmax(outputs)).sum(axis=-1).mean()


def _sparse(loss: losses.CrossEntropy, outputs: Array, y: Array) -> Array:
    if loss.used_options:
        return _with_options(loss, outputs, y)
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[..., None], axis=-1).mean()


def _with_options(loss: losses.CrossEntropy, outputs: Array, y: Array) -> Array:
    """Compute -sum(t log p) / divisor, in which the targets t contain the options."""
    classes, dtype = outputs.shape[-1], outputs.dtype
    kept = _kept(loss, y)
    one_hot = jax.nn.one_hot(jnp.where(kept, y, 0), classes, dtype=dtype)
    smoothed = (1 - loss.label_smoothing) * one_hot + loss.label_smoothing / classes
    weights = jnp.array(loss.class_weights or (1.0,) * classes, dtype)
    of_label = one_hot @ weights
    by_sample = loss.weighting == "samples"
    targets = of_label[..., None] * smoothed if by_sample else weights * smoothed
    divisor = total_weight(loss, y, dtype)
    terms = -(targets * jax.nn.log_softmax(outputs)).sum(axis=-1)
    return jnp.where(kept, terms, 0).sum() / jnp.where(divisor > 0, divisor, 1)


def total_weight(loss: losses.CrossEntropy, y: Array, dtype: Any) -> Array:
    """Compute what the sum of the loss of these labels is divided by."""
    kept = _kept(loss, y)
    if loss.class_weights is None or loss.weighting == "samples":
        return kept.sum().astype(dtype)
    weights = jnp.array(loss.class_weights, dtype)
    return jnp.where(kept, weights[jnp.where(kept, y, 0)], 0).sum()


def _kept(loss: losses.CrossEntropy, y: Array) -> Array:
    return jnp.ones(y.shape, bool) if loss.ignored_label is None else y != loss.ignored_label


def _binary(loss: losses.Loss, outputs: Array, y: Array) -> Array:
    targets = y.reshape(outputs.shape)
    softplus = jax.nn.softplus
    return (targets * softplus(-outputs) + (1 - targets) * softplus(outputs)).mean()


def _huber(loss: losses.Huber, outputs: Array, y: Array) -> Array:
    error = outputs - y
    inside = jnp.clip(error, -loss.delta, loss.delta)
    return (inside * (error - inside / 2)).mean()


# jax.nn.relu has a slope of zero where the margin is just reached, as the specification says.
LOSSES: dict[type[losses.Loss], Callable[[Any, Array, Array], Array]] = {
    losses.CategoricalCrossEntropy: _categorical,
    losses.SparseCategoricalCrossEntropy: _sparse,
    losses.BinaryCrossEntropy: _binary,
    losses.MeanSquaredError: lambda loss, out, y: jnp.square(out - y).mean(),
    losses.HalfMeanSquaredError: lambda loss, out, y: jnp.square(out - y).sum() / (2 * len(y)),
    losses.Huber: _huber,
    losses.PerceptronCriterion: lambda loss, out, y: jax.nn.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda loss, out, y: jax.nn.relu(1 - y * out[:, 0]).mean(),
}


def loss_value(loss: losses.Loss, outputs: Array, y: Array) -> Array:
    """Return a loss of outputs (N, ...)."""
    return LOSSES[type(loss)](loss, outputs, y)


def count_correct(loss: losses.Loss, outputs: Array, y: Array) -> Array:
    """Count the correct answers of outputs (N, ...); zero if the targets are values."""
    if loss.targets == "values":
        return jnp.int32(0)
    if loss.targets == "labels":
        right = outputs.argmax(axis=-1) == y
        right = right & _kept(loss, y) if isinstance(loss, losses.CrossEntropy) else right
    elif loss.targets == "signs":
        right = jnp.sign(outputs[:, 0]) == y
    else:
        right = (outputs > 0) == (y.reshape(outputs.shape) > 0)
    return right.sum(dtype=jnp.int32)
