"""Every optimiser's step by its formula, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop

Array = Any

Memory = dict[str, Any]
"""What an optimiser remembers of one tensor; empty before the first step."""


def _sgd(o: SGD, w: Array, g: Array, rate: float, t: int, memory: Memory) -> Array:
    if o.momentum == 0:
        return w - rate * g
    if o.velocity == "rate":
        v = memory["v"] = o.momentum * memory.get("v", 0.0) - rate * g
        return w + o.momentum * v - rate * g if o.nesterov else w + v
    v = memory["v"] = g if t == 1 else o.momentum * memory["v"] + (1 - o.dampening) * g
    return w - rate * (g + o.momentum * v if o.nesterov else v)


def _adam(o: Adam, w: Array, g: Array, rate: float, t: int, memory: Memory) -> Array:
    m = memory["m"] = o.beta_1 * memory.get("m", 0.0) + (1 - o.beta_1) * g
    v = memory["v"] = o.beta_2 * memory.get("v", 0.0) + (1 - o.beta_2) * g**2
    first, second = 1 - o.beta_1**t, 1 - o.beta_2**t
    if o.epsilon_added == "after":
        return w - rate * (m / first) / (np.sqrt(v / second) + o.epsilon)
    return w - rate * np.sqrt(second) / first * m / (np.sqrt(v) + o.epsilon)


def _rmsprop(o: RMSprop, w: Array, g: Array, rate: float, t: int, memory: Memory) -> Array:
    v = memory["v"] = o.rho * memory.get("v", 0.0) + (1 - o.rho) * g**2
    root = np.sqrt(v + o.epsilon) if o.epsilon_added == "inside" else np.sqrt(v) + o.epsilon
    return w - rate * g / root


STEPS: dict[type[Optimizer], Callable[..., Array]] = {SGD: _sgd, Adam: _adam, RMSprop: _rmsprop}


def step(optimizer: Optimizer, w: Array, g: Array, rate: float, t: int, memory: Memory) -> Array:
    """The tensor after update t, from 1."""
    return STEPS[type(optimizer)](optimizer, w, g, rate, t, memory)
