"""The update of all parameters: loss scaling, clipping, weight decay, the optimiser and the moving
average, as pure functions of trees of tensors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dlsys_bench.engines.jax.layers import JaxTensors
from dlsys_bench.engines.jax.optimizers import OPTIMIZERS, OptimizerState
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.loss_scale import LARGEST, LossScale
from dlsys_bench.spec.recipe import Recipe


class LossScaleState(NamedTuple):
    """A loss scale: its current value, the updates in a row that were not skipped, those of the
    epoch that were, and how many of these there were before each step (places,)."""

    scale: Array
    good: Array
    skipped: Array
    before: Array

    def after(self, record: LossScale, finite: Array, step: Array) -> LossScaleState:
        """Return the state after the gradient of a step, which was finite or not."""
        good = jnp.where(finite, self.good + 1, 0)
        grows = good == record.interval
        grown = self.scale * record.growth
        kept = jnp.where(grows, jnp.minimum(grown, LARGEST), self.scale)
        scale = jnp.where(finite, kept, self.scale * record.backoff)
        before = self.before.at[step].set(self.skipped)
        return LossScaleState(scale, jnp.where(grows, 0, good), self.skipped + ~finite, before)


class UpdateState(NamedTuple):
    """All that an update changes: the parameters, the state of the optimiser, the moving averages,
    which are empty if the recipe has none, and the loss scale, if it has one."""

    parameters: JaxTensors
    memory: dict[str, OptimizerState]
    averages: JaxTensors
    scaling: LossScaleState | None


class UpdateNumbers(NamedTuple):
    """The step of an update in its epoch, and what it needs from its number: the learning rate and
    what a decoupled weight decay leaves of a tensor (2,), the factors of the optimiser (k,), and
    whether it is the first."""

    step: Array
    rates: Array
    factors: Array
    first: Array


def _clip_norm(clip: ClipNorm, gradients: JaxTensors) -> JaxTensors:
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(each)) for each in gradients.values()))
    # A gradient of zero stays zero.
    tiny = jnp.finfo(norm.dtype).tiny
    scale = jnp.minimum(1.0, clip.limit / jnp.maximum(norm + clip.epsilon, tiny))
    return {name: scale * each for name, each in gradients.items()}


def _clip_value(clip: ClipValue, gradients: JaxTensors) -> JaxTensors:
    return {name: jnp.clip(each, -clip.limit, clip.limit) for name, each in gradients.items()}


CLIPS: dict[type[Clip], Callable[[Any, JaxTensors], JaxTensors]] = {
    ClipNorm: _clip_norm,
    ClipValue: _clip_value,
}


def _penalised(decay: WeightDecay, tensors: JaxTensors, gradients: JaxTensors) -> JaxTensors:
    """Return the gradients with the term of a coupled weight decay."""
    return {
        name: (each + decay.rate * tensors[name] if decay.applies(name, each.ndim) else each)
        for name, each in gradients.items()
    }


def update(
    recipe: Recipe, now: UpdateState, gradients: JaxTensors, numbers: UpdateNumbers
) -> UpdateState:
    """Make an update, unless its gradients are not finite under a loss scale."""
    if recipe.loss_scale is None or now.scaling is None:
        return _updated(recipe, now, gradients, numbers)
    own = {name: each / now.scaling.scale for name, each in gradients.items()}
    finite = jnp.stack([jnp.isfinite(each).all() for each in own.values()]).all()
    after: UpdateState = lax.cond(finite, lambda: _updated(recipe, now, own, numbers), lambda: now)
    return after._replace(scaling=now.scaling.after(recipe.loss_scale, finite, numbers.step))


def _updated(
    recipe: Recipe, now: UpdateState, gradients: JaxTensors, numbers: UpdateNumbers
) -> UpdateState:
    """Make an update."""
    optimizer, decay = recipe.optimizer, recipe.optimizer.decay
    rate, kept = numbers.rates
    factors = numbers.factors.at[0].multiply(rate)
    coupled = decay if decay is not None and decay.coupling == "coupled" else None
    if coupled is not None and coupled.clipped:
        gradients = _penalised(coupled, now.parameters, gradients)
    if recipe.clip is not None:
        gradients = CLIPS[type(recipe.clip)](recipe.clip, gradients)
    if coupled is not None and not coupled.clipped:
        gradients = _penalised(coupled, now.parameters, gradients)
    rule = OPTIMIZERS[type(optimizer)]
    parameters, memory, averages = {}, {}, {}
    for name, tensor in now.parameters.items():
        change, memory[name] = rule.change(optimizer, gradients[name], now.memory[name], factors)
        decays = decay is not None and coupled is None and decay.applies(name, tensor.ndim)
        parameters[name] = (kept * tensor if decays else tensor) + change
    if recipe.average is not None:
        share = jnp.where(numbers.first, 0.0, recipe.average.decay)
        for name, own in parameters.items():
            averages[name] = (share * now.averages[name] + (1.0 - share) * own).astype(own.dtype)
    return UpdateState(parameters, memory, averages, now.scaling)
