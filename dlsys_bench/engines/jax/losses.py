"""The losses, and the number of correct answers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from dlsys_bench.spec import losses


def _picked(outputs: Array, y: Array) -> Array:
    return jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], axis=1)


# jax.nn.relu has a slope of zero where the margin is just reached, as the specification says.
LOSSES: dict[type[losses.Loss], Callable[[Array, Array], Array]] = {
    losses.CategoricalCrossEntropy: lambda out, y: (
        -(jax.nn.one_hot(y, out.shape[1], dtype=out.dtype) * jax.nn.log_softmax(out))
        .sum(axis=1)
        .mean()
    ),
    losses.SparseCategoricalCrossEntropy: lambda out, y: -_picked(out, y).mean(),
    losses.MeanSquaredError: lambda out, y: jnp.square(out - y).mean(),
    losses.HalfMeanSquaredError: lambda out, y: jnp.square(out - y).sum() / (2 * len(y)),
    losses.PerceptronCriterion: lambda out, y: jax.nn.relu(-y * out[:, 0]).mean(),
    losses.Hinge: lambda out, y: jax.nn.relu(1 - y * out[:, 0]).mean(),
}


def count_correct(loss: losses.Loss, outputs: Array, y: Array) -> Array:
    """Count the correct answers of outputs (N, K); zero if the targets are values."""
    if loss.targets == "labels":
        return (outputs.argmax(axis=-1) == y).sum(dtype=jnp.int32)
    if loss.targets == "signs":
        return (jnp.sign(outputs[:, 0]) == y).sum(dtype=jnp.int32)
    return jnp.int32(0)
