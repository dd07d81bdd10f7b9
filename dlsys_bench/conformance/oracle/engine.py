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
from dlsys_bench.conformance.oracle.optimizers import OracleState, update_all
from dlsys_bench.conformance.oracle.rounding import EXACT, Rounding
from dlsys_bench.data import Samples
from dlsys_bench.engines.agreement import check_batch
from dlsys_bench.engines.base import Batch, Engine, Gradients
from dlsys_bench.engines.epochs import UpdateStep, epoch_runs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.inputs import float_places, input_arrays, input_gradients
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


class AccumulatedGradients(NamedTuple):
    """The loss and the gradients of a batch, by tensor, how many of its answers were correct, and
    of how many (None for a loss of values)."""

    loss: float
    answers: tuple[float, float] | None
    weights: Weights


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
        x = self._inputs(net.model, batch.x)
        return [y[0] for y in forward(net.model, _stacked(net.tensors), x, here)]

    def gradients(self, net: OracleNetwork, batch: Batch, loss: Loss) -> Gradients:
        check_batch(net.model, batch, loss)
        value = self._loss(
            net, _stacked(net.tensors), self._inputs(net.model, batch.x), batch, loss
        )
        found = self._weight_gradients(net, batch, loss)
        dx = [self._gradient(net, batch, loss, place) for place in float_places(net.model)]
        return Gradients(float(value[0].real), found, input_gradients(net.model, dx))

    def _weight_gradients(self, net: OracleNetwork, batch: Batch, loss: Loss) -> Weights:
        """Return the gradients that an update needs: not those of the inputs, which have most
        entries of all."""
        trainable = [tensor.name for tensor in net.model.tensors if tensor.trainable]
        return {name: self._gradient(net, batch, loss, name) for name in trainable}

    def slope(
        self,
        net: OracleNetwork,
        batch: Batch,
        loss: Loss,
        directions: Mapping[str | int, Array],
    ) -> Slope:
        """Return the loss and its derivative along a direction in some tensors, by their names, and
        in inputs, by their places.

        This takes one pass, for networks that are too large for the whole gradient.
        """
        tensors, x = _stacked(net.tensors), self._inputs(net.model, batch.x)
        for name, direction in directions.items():
            if isinstance(name, int):
                x[name] = x[name] + 1j * STEP * direction
            else:
                tensors[name] = tensors[name] + 1j * STEP * direction
        value = self._loss(net, tensors, x, batch, loss)[0]
        return Slope(float(value.real), float(value.imag / STEP))

    def moved_state(self, net: OracleNetwork, batch: Batch) -> Weights:
        """Return the tensors that a training step on a batch moves without a gradient."""
        here = ForwardPass(True, batch.masks, self.rounding)
        forward(net.model, _stacked(net.tensors), self._inputs(net.model, batch.x), here)
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
            ended = epoch.end_with(
                float(np.dot(losses, weights) / (sum(weights) or 1)),
                float(correct / (of or 1)) if recipe.loss.targets != "values" else None,
                losses,
            )
            trained, net.tensors = net.tensors, self.evaluated(net, states)
            yield ended
            net.tensors = trained
        net.tensors = self.evaluated(net, states)

    def evaluated(self, net: OracleNetwork, states: Mapping[str, OracleState]) -> Weights:
        """Return the tensors with which a network is evaluated: the averages, where there are
        any."""
        return {name: states[name].get("average", own) for name, own in net.tensors.items()}

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
        before = net.tensors
        found = self._accumulate(net, samples, recipe, step)
        if not math.isfinite(found.loss):
            net.tensors = before
            return found.loss, None
        net.tensors |= update_all(recipe, step, net.tensors, found.weights, states, self.rounding)
        return found.loss, found.answers

    def _accumulate(
        self, net: OracleNetwork, samples: Samples, recipe: Recipe, step: UpdateStep
    ) -> AccumulatedGradients:
        """Return the gradients of a batch, part by part, and move the state of the layers."""
        start, loss, gradients = 0, 0.0, dict[str, Array]()
        answers: list[tuple[float, float] | None] = []
        whole = divisor(recipe.loss, samples.y[step.chosen])
        for size in recipe.micro_batches(len(step.chosen)):
            here = slice(start, start + size)
            masks = {place: mask[here] for place, mask in step.masks.items()}
            batch = Batch(samples.x[step.chosen[here]], samples.y[step.chosen[here]], masks)
            share = divisor(recipe.loss, batch.y) / (whole or 1)
            state = ForwardPass(True, masks, self.rounding)
            x = self._inputs(net.model, batch.x)
            outputs = forward(net.model, _stacked(net.tensors), x, state)[-1]
            value = float(loss_value(recipe.loss, outputs, batch.y)[0])
            loss += share * value if math.isfinite(value) else value
            if not math.isfinite(loss):
                break
            answers.append(count_answers(recipe.loss, outputs[0], batch.y))
            for name, own in self._weight_gradients(net, batch, recipe.loss).items():
                gradients[name] = gradients.get(name, 0.0) + share * own
            net.tensors = net.tensors | self._moved(net.model, state)
            start += size
        known = [each for each in answers if each is not None]
        counts = (sum(right for right, _ in known), sum(of for _, of in known))
        return AccumulatedGradients(loss, counts if known else None, gradients)

    def _moved(self, model: Model, here: ForwardPass) -> Weights:
        """Return the moving statistics after a pass by their full names."""
        return {
            f"{model.names[place]}.{name}": self.rounding.array(value[0])
            for (place, name), value in here.statistics.items()
        }

    def _inputs(self, model: Model, x: Array) -> list[Any]:
        """Return every input, with an axis for the sets of tensors in front."""
        arrays = input_arrays(model, x, np.float64)
        return [
            (self.rounding.array(values) if each.dtype == "float" else values)[None]
            for each, values in zip(model.input_table, arrays, strict=True)
        ]

    def _loss(
        self, net: OracleNetwork, tensors: dict[str, Any], x: list[Any], batch: Batch, loss: Loss
    ) -> Array:
        """Return the loss for each set of tensors, (P,)."""
        here = ForwardPass(batch.training, batch.masks, self.rounding)
        value: Array = loss_value(loss, forward(net.model, tensors, x, here)[-1], batch.y)
        return value

    def _gradient(self, net: OracleNetwork, batch: Batch, loss: Loss, name: str | int) -> Array:
        """Return the gradient with respect to one tensor, or to an input, by its place.

        Each entry is moved in another copy of the tensor, and one pass computes the loss for as
        many copies as fit into memory.
        """
        x = self._inputs(net.model, batch.x)
        point = x[name][0] if isinstance(name, int) else net.tensors[name]
        tensors = _stacked(net.tensors)
        values = len(batch.x) * sum(math.prod(shape) for shape in net.model.shapes)
        at_once = max(1, BYTES // (16 * values))
        slopes = np.empty(point.size)
        for first in range(0, point.size, at_once):
            entries = range(first, min(first + at_once, point.size))
            moved = np.repeat(point.reshape(1, -1).astype(complex), len(entries), axis=0)
            moved[np.arange(len(entries)), list(entries)] += 1j * STEP
            copies = moved.reshape(len(entries), *point.shape)
            if isinstance(name, int):
                found = self._loss(net, tensors, [*x[:name], copies, *x[name + 1 :]], batch, loss)
            else:
                found = self._loss(net, tensors | {name: copies}, x, batch, loss)
            slopes[list(entries)] = found.imag / STEP
        return slopes.reshape(point.shape)


def _stacked(tensors: Weights) -> dict[str, Any]:
    """Return one set of tensors, each with an axis for the sets in front."""
    return {name: values[None] for name, values in tensors.items()}
