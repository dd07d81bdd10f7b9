"""One update or many, as pure functions of the state of a training, compiled once for each size of
a batch."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dlsys_bench.engines.jax.compilation import PROGRAMS, compile_program
from dlsys_bench.engines.jax.layers import JaxTensors
from dlsys_bench.engines.jax.losses import count_correct, total_weight
from dlsys_bench.engines.jax.network import draw, loss_of
from dlsys_bench.engines.jax.placement import JaxInputs
from dlsys_bench.engines.jax.updates import UpdateNumbers, UpdateState, update
from dlsys_bench.engines.plan import batch_slices
from dlsys_bench.spec.losses import CrossEntropy, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def bare_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe with what a program depends on: its loss, its optimiser but for the learning
    rate, and what surrounds it. Others are equal, so that few programs are compiled."""
    return Recipe(
        replace(recipe.optimizer, learning_rate=0.0),
        recipe.accumulate or 1,
        loss=recipe.loss,
        clip=recipe.clip,
        accumulate=recipe.accumulate,
        average=recipe.average,
        loss_scale=recipe.loss_scale and replace(recipe.loss_scale, initial=1.0),
    )


class TrainingState(NamedTuple):
    """All that a step changes, on the device and donated to it: what an update changes, and the
    state of the layers. Of the current epoch: the loss of each step (places,), and the numbers of
    correct answers, steps and samples so far. `sound` means that no loss has become non-finite
    yet."""

    updated: UpdateState
    state: JaxTensors
    losses: Array
    right: Array
    step: Array
    seen: Array
    sound: Array


class StepFeed(NamedTuple):
    """All that the steps of an epoch read: the samples, their order (N,), the learning rates and
    what a weight decay leaves (places, 2), the optimiser's factors (places, k), whether there was
    no update before the epoch, the key of dropout, and in parity mode the masks of the next steps
    by the layer's index, (steps, n, ...)."""

    x: JaxInputs
    y: Array
    order: Array
    rates: Array
    factors: Array
    opening: Array
    key: Array
    masks: dict[int, Array]


class BatchGradients(NamedTuple):
    """The loss and the gradients of a batch, the state after it, and the number of correct
    answers."""

    loss: Array
    gradients: JaxTensors
    state: JaxTensors
    right: Array


def _gradients(
    model: Model,
    loss: Loss,
    now: TrainingState,
    x: JaxInputs,
    y: Array,
    masks: dict[int, Array],
) -> BatchGradients:
    """Compute the gradients of a batch, or of a part of one, times the loss scale."""
    scaling = now.updated.scaling

    def value_of(parameters: JaxTensors) -> tuple[Array, tuple[Array, Array, JaxTensors]]:
        value, (outputs, moved) = loss_of(model, loss, parameters, now.state, x, y, masks, True)
        scaled = value if scaling is None else value * scaling.scale
        return scaled, (value, outputs, moved)

    (_, (value, outputs, moved)), gradients = jax.value_and_grad(value_of, has_aux=True)(
        now.updated.parameters
    )
    return BatchGradients(value, gradients, moved, count_correct(loss, outputs, y))


def _accumulate(
    model: Model,
    recipe: Recipe,
    now: TrainingState,
    x: JaxInputs,
    y: Array,
    masks: dict[int, Array],
) -> BatchGradients:
    """Compute the gradients of a batch, part by part."""
    slices = list(batch_slices(recipe.micro_batches(len(y))))
    if len(slices) == 1:
        return _gradients(model, recipe.loss, now, x, y, masks)
    loss, right, gradients = jnp.zeros((), now.losses.dtype), jnp.int32(0), JaxTensors()
    for here, share in zip(slices, _shares(recipe.loss, y, slices), strict=True):
        own = {place: mask[here] for place, mask in masks.items()}
        inputs = tuple(each[here] for each in x)
        part = _gradients(model, recipe.loss, now, inputs, y[here], own)
        now = now._replace(state=part.state)
        loss, right = loss + share * part.loss, right + part.right
        for name, each in part.gradients.items():
            gradients[name] = gradients.get(name, 0.0) + share * each
    return BatchGradients(loss, gradients, now.state, right)


def _shares(loss: Loss, y: Array, parts: list[slice]) -> list[Any]:
    """Return the share of each part in the mean loss of a batch."""
    if not isinstance(loss, CrossEntropy) or not loss.is_weighted:
        return [(part.stop - part.start) / len(y) for part in parts]
    weights = [total_weight(loss, y[part], jnp.result_type(float)) for part in parts]
    whole = sum(weights)
    return [weight / jnp.where(whole > 0, whole, 1) for weight in weights]


def _step(
    model: Model, recipe: Recipe, size: int, now: TrainingState, feed: StepFeed, place: Array
) -> TrainingState:
    """Make one update. A step with a non-finite loss changes nothing, nor does any step after
    it."""
    chosen = lax.dynamic_slice(feed.order, (now.seen,), (size,))
    x, y = tuple(each[chosen] for each in feed.x), feed.y[chosen]
    given = {layer: masks[place] for layer, masks in feed.masks.items()}
    masks = given or draw(model, jax.random.fold_in(feed.key, now.step), size)
    value, gradients, moved, correct = _accumulate(model, recipe, now, x, y, masks)
    sound = now.sound & jnp.isfinite(value)
    numbers = _numbers(recipe, now, feed)
    # A branch, not jnp.where, which would read all old values once more and take a third of the
    # step of a small network.
    updated, state = lax.cond(
        sound,
        lambda: (update(recipe, now.updated, gradients, numbers), moved),
        lambda: (now.updated, now.state),
    )
    losses, right = now.losses.at[now.step].set(value), now.right + correct
    return TrainingState(updated, state, losses, right, now.step + 1, now.seen + size, sound)


def _numbers(recipe: Recipe, now: TrainingState, feed: StepFeed) -> UpdateNumbers:
    """Return what the next update needs from its number. Skipped updates have none, and may or may
    not move the schedule."""
    step, scale, scaling = now.step, recipe.loss_scale, now.updated.scaling
    made = step if scaling is None else step - scaling.skipped
    counted = step if scale is None or scale.schedule_counts == "batches" else made
    first = feed.opening & (made == 0)
    return UpdateNumbers(step, feed.rates[counted], feed.factors[made], first)


@functools.lru_cache(PROGRAMS)
def program(model: Model, recipe: Recipe, size: int, looped: bool, fast: bool) -> Any:
    """Compile (state, feed, count) -> state, which makes `count` updates on batches of one size, or
    one update unless `looped`. A program is optimised unless it is compiled `fast`.

    Of the recipe, it uses what changes an update (see `bare_recipe`).

    The loop is a while_loop. The length of a scan would be part of the program, so that every
    number of steps would be compiled separately; a while_loop can also end at a non-finite loss.
    """
    step = functools.partial(_step, model, recipe, size)

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

    return compile_program(many if looped else one, fast=fast, donate_argnums=0)
