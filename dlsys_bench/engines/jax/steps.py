"""One update or many, as pure functions of the state of a training, compiled once for each size of
a batch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dlsys_bench.engines.jax.layers import JaxTensors
from dlsys_bench.engines.jax.losses import count_correct
from dlsys_bench.engines.jax.network import PROGRAMS, draw, loss_of
from dlsys_bench.engines.jax.optimizers import OPTIMIZERS, OptimizerState
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Optimizer


class TrainingState(NamedTuple):
    """All that a step changes, on the device and donated to it. Of the current epoch: the loss of
    each step (places,), and the numbers of correct answers, steps and samples so far. `sound` means
    that no loss has become non-finite yet."""

    parameters: JaxTensors
    state: JaxTensors
    memory: dict[str, OptimizerState]
    losses: Array
    right: Array
    step: Array
    seen: Array
    sound: Array


class StepFeed(NamedTuple):
    """All that the steps of an epoch read: the samples, their order (N,), the optimiser's factors
    (places, k), the key of dropout, and in parity mode the masks of the next steps by the layer's
    index, (steps, n, ...)."""

    x: Array
    y: Array
    order: Array
    factors: Array
    key: Array
    masks: dict[int, Array]


def _step(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    size: int,
    now: TrainingState,
    feed: StepFeed,
    place: Array,
) -> TrainingState:
    """Make one update. A step with a non-finite loss changes nothing, nor does any step after
    it."""
    chosen = lax.dynamic_slice(feed.order, (now.seen,), (size,))
    x, y = feed.x[chosen], feed.y[chosen]
    given = {layer: masks[place] for layer, masks in feed.masks.items()}
    masks = given or draw(model, jax.random.fold_in(feed.key, now.step), size)

    def value_of(parameters: JaxTensors) -> tuple[Array, tuple[Array, JaxTensors]]:
        return loss_of(model, loss, parameters, now.state, x, y, masks, True)

    (value, (outputs, moved)), gradients = jax.value_and_grad(value_of, has_aux=True)(
        now.parameters
    )
    rule, row = OPTIMIZERS[type(optimizer)], feed.factors[now.step]
    sound = now.sound & jnp.isfinite(value)

    def update() -> tuple[JaxTensors, JaxTensors, dict[str, OptimizerState]]:
        parameters, memory = {}, {}
        for name, tensor in now.parameters.items():
            change, memory[name] = rule.change(optimizer, gradients[name], now.memory[name], row)
            parameters[name] = tensor + change
        return parameters, moved, memory

    # A branch, not jnp.where, which would read all old values once more and take a third of the
    # step of a small network.
    parameters, state, memory = lax.cond(
        sound, update, lambda: (now.parameters, now.state, now.memory)
    )
    losses, right = now.losses.at[now.step].set(value), now.right + count_correct(loss, outputs, y)
    return TrainingState(
        parameters, state, memory, losses, right, now.step + 1, now.seen + size, sound
    )


@functools.lru_cache(PROGRAMS)
def program(model: Model, loss: Loss, optimizer: Optimizer, size: int, looped: bool) -> Any:
    """Compile (state, feed, count) -> state, which makes `count` updates on batches of one size, or
    one update unless `looped`.

    The loop is a while_loop. The length of a scan would be part of the program, so that every
    number of steps would be compiled separately; a while_loop can also end at a non-finite loss.
    """
    step = functools.partial(_step, model, loss, optimizer, size)

    def one(now: TrainingState, feed: StepFeed, count: Array) -> TrainingState:
        return step(now, feed, jnp.int32(0))

    def many(now: TrainingState, feed: StepFeed, count: Array) -> TrainingState:
        first, last = now.step, now.step + count
        done: TrainingState = lax.while_loop(
            lambda now: (now.step < last) & now.sound,
            lambda now: step(now, feed, now.step - first),
            now,
        )
        return done

    return jax.jit(many if looped else one, donate_argnums=0)
