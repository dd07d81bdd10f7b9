"""The first step, and in it the first layer, in which two engines differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance.guard import Guard
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan, Weights, count_steps
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class Divergence(NamedTuple):
    """A difference between two engines: the step (from 1), the quantity, its layer, the largest
    difference, and the tensor, if the quantity is one of the model."""

    step: int
    what: str
    layer: str
    difference: float
    tensor: str | None = None

    def __str__(self) -> str:
        return f"step {self.step}: {self.what} differs by {self.difference:.3g}"


def first_divergence(
    left: Engine | Guard,
    right: Engine,
    model: Model,
    recipe: Recipe,
    samples: Samples,
    plan: Plan,
    tolerance: float,
) -> Divergence | None:
    """Train on two engines with one plan and compare every tensor; None if all agree.

    Otherwise, the number of steps is bisected until the first step is found after which the tensors
    differ. In that step, the first layer is named whose output differs, else the last whose
    gradient differs, else the tensor that differs most after the update.
    """
    pair = _Pair((left, right), model, recipe, samples, replace(plan, parity=True))
    agree, differ = 0, count_steps(len(samples.x), recipe, plan)
    if pair.difference_after(differ)[1] <= tolerance:
        return None
    while differ - agree > 1:
        middle = (agree + differ) // 2
        if pair.difference_after(middle)[1] <= tolerance:
            agree = middle
        else:
            differ = middle
    return pair.divergence_in(differ, tolerance)


@dataclass(frozen=True)
class _Pair:
    """One training on two engines."""

    engines: tuple[Engine | Guard, Engine | Guard]
    model: Model
    recipe: Recipe
    samples: Samples
    plan: Plan

    def trained(self, engine: Engine | Guard, steps: int) -> Weights:
        """Return the tensors after a number of steps."""
        network: Any = engine.build(self.model, self.plan.weights(self.model))
        if steps:
            plan = replace(self.plan, steps=steps)
            train(engine, network, self.samples, self.recipe, plan)
        return engine.weights(network)

    def difference_after(self, steps: int) -> tuple[str, float]:
        """Return the tensor that differs most after a number of steps, and its difference."""
        left, right = (self.trained(engine, steps) for engine in self.engines)
        return _largest(left, right)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step (from 1)."""
        recipe, samples = self.recipe, self.samples
        per_epoch = -(-len(samples.x) // recipe.batch_size)
        epoch, place = divmod(step - 1, per_epoch)
        order = self.plan.order(epoch + 1, len(samples.x), recipe.shuffle)
        chosen = order[place * recipe.batch_size :][: recipe.batch_size]
        masks = self.plan.masks(self.model, step - 1, len(chosen))
        return Batch(samples.x[chosen], samples.y[chosen], masks)

    def divergence_in(self, step: int, tolerance: float) -> Divergence:
        """Return the first quantity that differs in a step before which all tensors agree."""
        weights, batch = self.trained(self.engines[0], step - 1), self.batch(step)
        networks: list[tuple[Any, Any]] = [
            (engine, engine.build(self.model, weights)) for engine in self.engines
        ]
        left, right = (engine.trace(network, batch) for engine, network in networks)
        for name, one, other in zip(self.model.names, left, right, strict=True):
            difference = _largest({name: one}, {name: other})[1]
            if difference > tolerance:
                return Divergence(step, f"the output of {name}", name, difference)
        first, second = (
            engine.gradients(network, batch, self.recipe.loss).weights
            for engine, network in networks
        )
        # From the output down, because the first wrong gradient spoils those below it.
        for name in reversed(first):
            difference = _largest({name: first[name]}, {name: second[name]})[1]
            if difference > tolerance:
                return Divergence(step, f"the gradient of {name}", _layer(name), difference, name)
        name, difference = self.difference_after(step)
        return Divergence(step, f"{name} after the update", _layer(name), difference, name)


def _layer(tensor: str) -> str:
    return tensor.partition(".")[0]


def _largest(a: Weights, b: Weights) -> tuple[str, float]:
    """Return the tensor that differs most, and its difference. NaN differs infinitely."""
    differences = {
        name: float(np.nan_to_num(np.abs(a[name] - b[name]).max(initial=0.0), nan=np.inf))
        for name in a
    }
    name = max(differences, key=lambda name: differences[name])
    return name, differences[name]
