"""The oracle as an engine: forward by definition, gradients by complex steps, updates by
formula."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance.oracle.augmentation import augmented
from dlsys_bench.conformance.oracle.forward import ForwardPass, forward
from dlsys_bench.conformance.oracle.losses import count_answers, divisor, loss_value
from dlsys_bench.conformance.oracle.optimizers import OracleState, updated
from dlsys_bench.conformance.oracle.rounding import EXACT, Rounding
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine, Gradients, input_array
from dlsys_bench.engines.epochs import UpdateStep, epoch_runs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

STEP = 1e-30
"""The complex step. Rounding errors do not grow as it shrinks, and its square underflows."""

BYTES = 2**26
"""The memory for the values of one pass, which limits the entries that are moved at a time."""


@dataclass
class OracleNetwork:
    """A model and its tensors."""

    model: Model
    tensors: Weights


class Slope(NamedTuple):
    """A loss, and its derivative along a direction."""

    loss: float
    derivative: float


class Oracle(Engine):
    """The engine with which others are compared. It accepts every record, and always follows the
    plan."""

    name = "oracle"
    convention = "keras"
    conventions = ("keras", "torch")
    dtypes = ("float64",)

    def __init__(
        self, device: str = "cpu", dtype: str = "float64", *, rounding: Rounding = EXACT
    ) -> None:
        super().__init__(device, dtype)
        self.rounding = rounding

    def check(self, *records: Record) -> None:
        """Accept every record, in mixed conventions too."""

    def build(
        self, model: Model, weights: Weights | None = None, *, seed: int = 0
    ) -> OracleNetwork:
        given = Plan(seed).weights(model) if weights is None else weights
        tensors: Weights = {
            name: self.rounding.array(np.array(values, np.float64))
            for name, values in given.items()
        }
        return OracleNetwork(model, tensors)

    def weights(self, net: OracleNetwork) -> Weights:
        return {name: values.copy() for name, values in net.tensors.items()}

    def predict(self, net: OracleNetwork, x: Array) -> Array:
        return self.trace(net, Batch(x, x, training=False))[-1]

    def trace(self, net: OracleNetwork, batch: Batch) -> list[Array]:
        here = ForwardPass(batch.training, batch.masks, self.rounding)
        x = self._input(net.model, batch.x)
        return [y[0] for y in forward(net.model, _stacked(net.tensors), x, here)]

    def gradients(self, net: OracleNetwork, batch: Batch, loss: Loss) -> Gradients:
        check_targets(loss, batch.y, net.model.output_shape)
        value = self._loss(net, _stacked(net.tensors), self._input(net.model, batch.x), batch, loss)
        trainable = [tensor.name for tensor in net.model.tensors if tensor.trainable]
        found = {name: self._gradient(net, batch, loss, name) for name in trainable}
        floats = net.model.input_dtype == "float"
        dx = self._gradient(net, batch, loss, None) if floats else None
        return Gradients(float(value[0].real), found, dx)

    def slope(
        self,
        net: OracleNetwork,
        batch: Batch,
        loss: Loss,
        directions: Mapping[str | None, Array],
    ) -> Slope:
        """Return the loss and its derivative along a direction in some tensors and in x (None).

        This takes one pass, for networks that are too large for the whole gradient.
        """
        tensors, x = _stacked(net.tensors), self._input(net.model, batch.x)
        for name, direction in directions.items():
            if name is None:
                x = x + 1j * STEP * direction
            else:
                tensors[name] = tensors[name] + 1j * STEP * direction
        value = self._loss(net, tensors, x, batch, loss)[0]
        return Slope(float(value.real), float(value.imag / STEP))

    def moved_state(self, net: OracleNetwork, batch: Batch) -> Weights:
        """Return the tensors that a training step on a batch moves without a gradient."""
        here = ForwardPass(True, batch.masks, self.rounding)
        forward(net.model, _stacked(net.tensors), self._input(net.model, batch.x), here)
        return self._moved(net.model, here)

    def fit(
        self, net: OracleNetwork, samples: Samples, recipe: Recipe, plan: Plan
    ) -> Generator[Epoch]:
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        states: dict[str, OracleState] = {name: {} for name in net.tensors}
        by_plan = replace(plan, parity=True)
        for epoch in epoch_runs(net.model, len(samples.x), recipe, by_plan):
            losses, weights, answers = [], [], []
            own = replace(samples, x=augmented(samples.x, recipe, by_plan, epoch.number))
            for step in epoch.steps():
                loss, counts = self.update(net, own, recipe, step, states)
                epoch.add(loss)
                losses.append(loss)
                weights.append(divisor(recipe.loss, samples.y[step.chosen]))
                answers.append(counts or (0.0, 0.0))
            # The means are computed here, because the oracle must not share this code of engines.
            correct, of = np.sum(answers, axis=0)
            yield epoch.end_with(
                float(np.dot(losses, weights) / (sum(weights) or 1)),
                float(correct / (of or 1)) if recipe.loss.targets != "values" else None,
                losses,
            )

    def update(
        self,
        net: OracleNetwork,
        samples: Samples,
        recipe: Recipe,
        step: UpdateStep,
        states: dict[str, OracleState],
    ) -> tuple[float, tuple[float, float] | None]:
        """Update all tensors for a batch, and return its loss before the update, how many of its
        answers were correct, and of how many."""
        batch = Batch(samples.x[step.chosen], samples.y[step.chosen], step.masks)
        here, rounding = ForwardPass(True, step.masks, self.rounding), self.rounding
        outputs = forward(net.model, _stacked(net.tensors), self._input(net.model, batch.x), here)[
            -1
        ]
        loss = float(loss_value(recipe.loss, outputs, batch.y)[0])
        if not math.isfinite(loss):
            return loss, None
        for name, gradient in self.gradients(net, batch, recipe.loss).weights.items():
            moved = updated(
                rounding.record(recipe.optimizer),
                net.tensors[name],
                rounding.array(gradient),
                rounding.constant(step.learning_rate),
                step.number + 1,
                states[name],
                rounding,
            )
            net.tensors[name] = rounding.array(moved)
        net.tensors |= self._moved(net.model, here)
        return loss, count_answers(recipe.loss, outputs[0], batch.y)

    def _moved(self, model: Model, here: ForwardPass) -> Weights:
        """Return the moving statistics after a pass by their full names."""
        return {
            f"{model.names[place]}.{name}": self.rounding.array(value[0])
            for (place, name), value in here.statistics.items()
        }

    def _input(self, model: Model, x: Array) -> Any:
        """Return x with an axis for the sets of tensors in front."""
        values = input_array(model, x, np.float64)
        return (self.rounding.array(values) if model.input_dtype == "float" else values)[None]

    def _loss(
        self, net: OracleNetwork, tensors: dict[str, Any], x: Any, batch: Batch, loss: Loss
    ) -> Array:
        """Return the loss for each set of tensors, (P,)."""
        here = ForwardPass(batch.training, batch.masks, self.rounding)
        value: Array = loss_value(loss, forward(net.model, tensors, x, here)[-1], batch.y)
        return value

    def _gradient(self, net: OracleNetwork, batch: Batch, loss: Loss, name: str | None) -> Array:
        """Return the gradient with respect to one tensor, or to x (None).

        Each entry is moved in another copy of the tensor, and one pass computes the loss for as
        many copies as fit into memory.
        """
        x = self._input(net.model, batch.x)
        point = x[0] if name is None else net.tensors[name]
        tensors = _stacked(net.tensors)
        values = len(batch.x) * sum(math.prod(shape) for shape in net.model.shapes)
        at_once = max(1, BYTES // (16 * values))
        slopes = np.empty(point.size)
        for first in range(0, point.size, at_once):
            entries = range(first, min(first + at_once, point.size))
            moved = np.repeat(point.reshape(1, -1).astype(complex), len(entries), axis=0)
            moved[np.arange(len(entries)), list(entries)] += 1j * STEP
            copies = moved.reshape(len(entries), *point.shape)
            if name is None:
                found = self._loss(net, tensors, copies, batch, loss)
            else:
                found = self._loss(net, tensors | {name: copies}, x, batch, loss)
            slopes[list(entries)] = found.imag / STEP
        return slopes.reshape(point.shape)


def _stacked(tensors: Weights) -> dict[str, Any]:
    """Return one set of tensors, each with an axis for the sets in front."""
    return {name: values[None] for name, values in tensors.items()}
