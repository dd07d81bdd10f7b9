"""The optimisers, each a pure function of a gradient and what is remembered of those before.

What depends on the step alone (the rate, the bias correction) is worked out for a whole epoch in
double precision on the host, `factors` (steps, k) and `rate_factors` (steps, 2), and a step on the
device looks up its rows: 1 - 0.999 ** t has four digits in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe

OptimizerState = tuple[Array, ...]
Row = NDArray[np.float64]


class UpdateRule(NamedTuple):
    """`slots` is the number of arrays of state per tensor. `factors` computes what an update needs
    from its number (from 1), one column each, of which the first is a factor of the learning rate.
    `change` (record, gradient, state, factors) takes the first times the learning rate, and returns
    what is added to the tensor, and the new state."""

    slots: Callable[[Any], int]
    factors: Callable[[Any, Row], tuple[Row, ...]]
    change: Callable[[Any, Array, OptimizerState, Array], tuple[Array, OptimizerState]]


def _sgd(
    record: SGD, gradient: Array, memory: OptimizerState, factors: Array
) -> tuple[Array, OptimizerState]:
    rate, share = factors
    if not memory:
        return -rate * gradient, ()
    (velocity,) = memory
    if record.velocity == "rate":
        velocity = record.momentum * velocity - rate * gradient
        ahead = record.momentum * velocity - rate * gradient
        return (ahead if record.nesterov else velocity), (velocity,)
    velocity = record.momentum * velocity + share * gradient
    ahead = record.momentum * velocity + gradient
    return -rate * (ahead if record.nesterov else velocity), (velocity,)


def _adam_factors(record: Adam, updates: Row) -> tuple[Row, ...]:
    """Return the step size, and the factor of the root before epsilon is added."""
    mean, root = 1.0 - record.beta_1**updates, np.sqrt(1.0 - record.beta_2**updates)
    if record.epsilon_added == "after":
        return 1.0 / mean, 1.0 / root
    return root / mean, np.ones_like(root)


def _adam(
    record: Adam, gradient: Array, memory: OptimizerState, factors: Array
) -> tuple[Array, OptimizerState]:
    mean, square = memory
    size, scale = factors
    mean = record.beta_1 * mean + (1.0 - record.beta_1) * gradient
    square = record.beta_2 * square + (1.0 - record.beta_2) * jnp.square(gradient)
    return -size * mean / (jnp.sqrt(square) * scale + record.epsilon), (mean, square)


def _rmsprop(
    record: RMSprop, gradient: Array, memory: OptimizerState, factors: Array
) -> tuple[Array, OptimizerState]:
    (square,), (rate,) = memory, factors
    square = record.rho * square + (1.0 - record.rho) * jnp.square(gradient)
    inside = record.epsilon_added == "inside"
    root = jnp.sqrt(square + record.epsilon) if inside else jnp.sqrt(square) + record.epsilon
    return -rate * gradient / root, (square,)


OPTIMIZERS: dict[type[Optimizer], UpdateRule] = {
    SGD: UpdateRule(
        lambda record: int(record.momentum > 0),
        # As in torch, the first velocity is the gradient itself; only later ones are dampened.
        lambda record, updates: (
            np.ones_like(updates),
            np.where(updates == 1, 1.0, 1.0 - record.dampening),
        ),
        _sgd,
    ),
    Adam: UpdateRule(lambda record: 2, _adam_factors, _adam),
    RMSprop: UpdateRule(
        lambda record: 1, lambda record, updates: (np.ones_like(updates),), _rmsprop
    ),
}


def factors(optimizer: Optimizer, first: int, updates: int) -> NDArray[np.float64]:
    """Compute the factors (updates, k) of the updates from `first` on, by their numbers."""
    numbers = np.arange(first + 1, first + updates + 1, dtype=np.float64)
    return np.stack(OPTIMIZERS[type(optimizer)].factors(optimizer, numbers), axis=1)


def rate_factors(recipe: Recipe, first: int, steps: int) -> NDArray[np.float64]:
    """Compute the learning rates of the steps from `first` on, and what a decoupled weight decay
    leaves of a tensor, (steps, 2)."""
    rates = np.array([recipe.rate(step) for step in range(first, first + steps)], np.float64)
    decay = recipe.optimizer.decay
    return np.stack([rates, 1.0 - rates * (0.0 if decay is None else decay.rate)], axis=1)
