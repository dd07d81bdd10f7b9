"""The update of all parameters: clipping, weight decay, the optimiser and the moving average, as
pure functions of trees of tensors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from dlsys_bench.engines.jax.layers import JaxTensors
from dlsys_bench.engines.jax.optimizers import OPTIMIZERS, OptimizerState
from dlsys_bench.spec.clipping import Clip, ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.recipe import Recipe


class UpdateState(NamedTuple):
    """All that an update changes: the parameters, the state of the optimiser, and the moving
    averages, which are empty if the recipe has none."""

    parameters: JaxTensors
    memory: dict[str, OptimizerState]
    averages: JaxTensors


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
    recipe: Recipe, now: UpdateState, gradients: JaxTensors, row: Array, first: Array
) -> UpdateState:
    """Make an update with a row of `factors`. `first` is true for the first update."""
    optimizer, decay = recipe.optimizer, recipe.optimizer.decay
    *factors, kept = row
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
        change, memory[name] = rule.change(
            optimizer, gradients[name], now.memory[name], jnp.stack(factors)
        )
        decays = decay is not None and coupled is None and decay.applies(name, tensor.ndim)
        parameters[name] = (kept * tensor if decays else tensor) + change
    if recipe.average is not None:
        share = jnp.where(first, 0.0, recipe.average.decay)
        for name, own in parameters.items():
            averages[name] = (share * now.averages[name] + (1.0 - share) * own).astype(own.dtype)
    return UpdateState(parameters, memory, averages)
