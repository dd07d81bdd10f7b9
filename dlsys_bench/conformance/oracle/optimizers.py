"""The update of every optimiser by its formula, and what a recipe does before and after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlsys_bench.conformance.oracle.forward import ComplexArray, definition
from dlsys_bench.conformance.oracle.rounding import EXACT, Rounding
from dlsys_bench.engines.epochs import UpdateStep
from dlsys_bench.engines.plan import Weights
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.clipping import ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe

OracleState = dict[str, Any]
"""The state of an optimiser for one tensor; empty before the first update."""


def _sgd(
    o: SGD,
    w: ComplexArray,
    g: ComplexArray,
    rate: float,
    t: int,
    state: OracleState,
    rounding: Rounding,
) -> ComplexArray:
    if o.momentum == 0:
        return w - rate * g
    if o.velocity == "rate":
        v = state["v"] = rounding.array(o.momentum * state.get("v", 0.0) - rate * g)
        return w + o.momentum * v - rate * g if o.nesterov else w + v
    v = g if t == 1 else o.momentum * state["v"] + (1 - o.dampening) * g
    v = state["v"] = rounding.array(v)
    return w - rate * (g + o.momentum * v if o.nesterov else v)


def _adam(
    o: Adam,
    w: ComplexArray,
    g: ComplexArray,
    rate: float,
    t: int,
    state: OracleState,
    rounding: Rounding,
) -> ComplexArray:
    m = state["m"] = rounding.array(o.beta_1 * state.get("m", 0.0) + (1 - o.beta_1) * g)
    v = state["v"] = rounding.array(o.beta_2 * state.get("v", 0.0) + (1 - o.beta_2) * g**2)
    first, second = 1 - rounding.constant(o.beta_1**t), 1 - rounding.constant(o.beta_2**t)
    if o.epsilon_added == "after":
        return w - rate * (m / first) / (np.sqrt(v / second) + o.epsilon)
    return w - rate * np.sqrt(second) / first * m / (np.sqrt(v) + o.epsilon)


def _rmsprop(
    o: RMSprop,
    w: ComplexArray,
    g: ComplexArray,
    rate: float,
    t: int,
    state: OracleState,
    rounding: Rounding,
) -> ComplexArray:
    v = state["v"] = rounding.array(o.rho * state.get("v", 0.0) + (1 - o.rho) * g**2)
    root = np.sqrt(v + o.epsilon) if o.epsilon_added == "inside" else np.sqrt(v) + o.epsilon
    return w - rate * g / root


UPDATES: dict[
    str,
    Callable[[Any, ComplexArray, ComplexArray, float, int, OracleState, Rounding], ComplexArray],
] = {
    "sgd": _sgd,
    "adam": _adam,
    "rmsprop": _rmsprop,
}
"""The update of each kind of optimiser."""


def updated(
    optimizer: Optimizer,
    w: ComplexArray,
    g: ComplexArray,
    rate: float,
    t: int,
    state: OracleState,
    rounding: Rounding = EXACT,
) -> ComplexArray:
    """Return the tensor w after update t (from 1) for the gradient g, and update the state."""
    return definition(UPDATES, optimizer)(optimizer, w, g, rate, t, state, rounding)


DECAYS: Mapping[str, Callable[[str, ComplexArray], bool]] = {
    "kernels": lambda name, w: w.ndim >= 2 and not name.endswith(".embeddings"),
    "matrices": lambda name, w: w.ndim >= 2,
    "all": lambda name, w: True,
}
"""Whether a trainable tensor decays, for each choice of `WeightDecay.tensors`."""


def _decays(decay: WeightDecay | None, coupling: str, name: str, w: ComplexArray) -> bool:
    return decay is not None and decay.coupling == coupling and DECAYS[decay.tensors](name, w)


def decayed(
    decay: WeightDecay | None, name: str, w: ComplexArray, rate: float, rounding: Rounding = EXACT
) -> ComplexArray:
    """Return a tensor after its decoupled weight decay."""
    if decay is None or not _decays(decay, "decoupled", name, w):
        return w
    return w - rounding.array(rate * rounding.record(decay).rate * w)


def limited(
    recipe: Recipe, weights: Weights, gradients: Weights, rounding: Rounding = EXACT
) -> Weights:
    """Return the gradients that the optimiser takes: with the coupled weight decay, and clipped."""
    decay, clip = recipe.optimizer.decay, recipe.clip

    def add_penalty(found: Weights) -> Weights:
        return {
            name: (
                g + rounding.record(decay).rate * weights[name]
                if decay is not None and _decays(decay, "coupled", name, weights[name])
                else g
            )
            for name, g in found.items()
        }

    def clip_all(found: Weights) -> Weights:
        return found if clip is None else definition(CLIPS, clip)(rounding.record(clip), found)

    if decay is not None and decay.clipped:
        return clip_all(add_penalty(gradients))
    return add_penalty(clip_all(gradients))


def _clip_norm(clip: ClipNorm, gradients: Weights) -> Weights:
    norm = np.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    scale = min(1.0, clip.limit / (norm + clip.epsilon)) if norm > 0 else 1.0
    return {name: scale * g for name, g in gradients.items()}


def _clip_value(clip: ClipValue, gradients: Weights) -> Weights:
    return {name: np.clip(g, -clip.limit, clip.limit) for name, g in gradients.items()}


CLIPS: Mapping[str, Callable[[Any, Weights], Weights]] = {
    "clip_norm": _clip_norm,
    "clip_value": _clip_value,
}
"""The clipping of each kind, of the gradients of all tensors."""


def average(
    record: WeightAverage, w: ComplexArray, state: OracleState, rounding: Rounding = EXACT
) -> None:
    """Update the moving average of a tensor, in its state, for its value w after an update."""
    decay = rounding.record(record).decay
    before = state.get("average")
    state["average"] = rounding.array(w if before is None else decay * before + (1 - decay) * w)


def update_all(
    recipe: Recipe,
    step: UpdateStep,
    weights: Weights,
    gradients: Weights,
    states: Mapping[str, OracleState],
    rounding: Rounding = EXACT,
) -> Weights:
    """Return the trainable tensors after an update, and update their states."""
    optimizer, found = recipe.optimizer, dict[str, Any]()
    for name, gradient in limited(recipe, weights, gradients, rounding).items():
        moved = updated(
            rounding.record(optimizer),
            decayed(optimizer.decay, name, weights[name], step.learning_rate, rounding),
            rounding.array(gradient),
            rounding.constant(step.learning_rate),
            step.number + 1,
            states[name],
            rounding,
        )
        found[name] = rounding.array(moved)
        if recipe.average is not None:
            average(recipe.average, found[name], states[name], rounding)
    return found
