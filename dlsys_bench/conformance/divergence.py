"""Where two engines part: the first step, then the first layer, whose figures differ."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights, steps_of
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class Divergence(NamedTuple):
    """Step (from 1), what of which layer, and the largest difference."""

    step: int
    what: str
    difference: float

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} differs by {self.difference:.3g}"


def _largest(a: Weights, b: Weights) -> tuple[str, float]:
    """The tensor that differs most. What is not a number differs infinitely."""
    differences = {
        name: float(np.nan_to_num(np.abs(a[name] - b[name]).max(initial=0.0), nan=np.inf))
        for name in a
    }
    name = max(differences, key=lambda name: differences[name])
    return name, differences[name]


def _trained(
    engine: Engine, model: Model, recipe: Recipe, samples: Samples, plan: Plan, steps: int
) -> Weights:
    net = engine.build(model, plan.weights(model))
    if steps:
        train(engine, net, samples, recipe, replace(plan, steps=steps))
    return engine.weights(net)


def first_divergence(
    left: Engine,
    right: Engine,
    model: Model,
    recipe: Recipe,
    samples: Samples,
    plan: Plan,
    tolerance: float,
) -> Divergence | None:
    """Train both from one plan and compare every weight and statistic; None if all are within the
    tolerance.

    Otherwise the number of steps is halved until the first step that parts them is found, and in
    that step the first layer: by its output, else by its gradient, else by the update itself.
    """
    plan = replace(plan, parity=True)

    def both(steps: int) -> tuple[Weights, Weights]:
        one, other = (
            _trained(engine, model, recipe, samples, plan, steps) for engine in (left, right)
        )
        return one, other

    agree, part = 0, steps_of(len(samples.x), recipe, plan)
    if _largest(*both(part))[1] <= tolerance:
        return None
    while part - agree > 1:
        middle = (agree + part) // 2
        if _largest(*both(middle))[1] <= tolerance:
            agree = middle
        else:
            part = middle
    return Divergence(part, *_within(left, right, model, recipe, samples, plan, part, tolerance))


def _within(
    left: Engine,
    right: Engine,
    model: Model,
    recipe: Recipe,
    samples: Samples,
    plan: Plan,
    step: int,
    tolerance: float,
) -> tuple[str, float]:
    weights = _trained(left, model, recipe, samples, plan, step - 1)
    per_epoch = -(-len(samples.x) // recipe.batch_size)
    order = plan.order((step - 1) // per_epoch + 1, len(samples.x), recipe.shuffle)
    first = (step - 1) % per_epoch * recipe.batch_size
    chosen = order[first : first + recipe.batch_size]
    batch = Batch(samples.x[chosen], samples.y[chosen], plan.masks(model, step - 1, len(chosen)))
    nets = [(engine, engine.build(model, weights)) for engine in (left, right)]
    for name, one, other in zip(
        model.names, *(engine.trace(net, batch) for engine, net in nets), strict=True
    ):
        difference = _largest({name: one}, {name: other})[1]
        if difference > tolerance:
            return f"the output of {name}", difference
    gradients = [engine.gradients(net, batch, recipe.loss).weights for engine, net in nets]
    # From the output down: the first wrong gradient spoils those below it.
    for name in reversed(gradients[0]):
        difference = _largest({name: gradients[0][name]}, {name: gradients[1][name]})[1]
        if difference > tolerance:
            return f"the gradient of {name}", difference
    name, difference = _largest(
        *(_trained(engine, model, recipe, samples, plan, step) for engine in (left, right))
    )
    return f"{name} after the update", difference
