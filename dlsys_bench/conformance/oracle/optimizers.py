"""The update of every optimiser by its formula, one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlsys_bench.conformance.oracle.forward import ComplexArray, definition
from dlsys_bench.conformance.oracle.rounding import EXACT, Rounding
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop

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
