"""The oracle as an engine: forward by definition, gradients by complex steps, updates by
formula."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlsys_bench.conformance.oracle.forward import Pass, forward, loss_of, right
from dlsys_bench.conformance.oracle.optimizers import Memory, step
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine, Gradients, check_targets
from dlsys_bench.engines.epochs import Epoch, training_epochs
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

# No rounding error grows with it, so it is as small as keeps its own square at nothing.
H = 1e-30

# As many entries are moved at a time as keep what is computed within this.
BYTES = 2**26


@dataclass
class Net:
    """A model and its tensors."""

    model: Model
    tensors: Weights


class Oracle(Engine):
    """What every engine is compared with. It follows every record as it stands, and always the
    plan."""

    name = "oracle"
    convention = "keras"
    conventions = ("keras", "torch")
    dtypes = ("float64",)

    def __init__(self, device: str = "cpu", dtype: str = "float64") -> None:
        super().__init__(device, dtype)

    def check(self, *records: Record) -> None:
        """Nothing is refused, mixed conventions neither."""

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Net:
        given = Plan(seed).weights(model) if weights is None else weights
        return Net(model, {name: np.array(values, np.float64) for name, values in given.items()})

    def weights(self, net: Net) -> Weights:
        return {name: values.copy() for name, values in net.tensors.items()}

    def predict(self, net: Net, x: Array) -> Array:
        return _outputs(net, Batch(x, x, training=False))[-1]

    def trace(self, net: Net, batch: Batch) -> list[Array]:
        return _outputs(net, batch)

    def gradients(self, net: Net, batch: Batch, loss: Loss) -> Gradients:
        check_targets(loss, batch.y, net.model.output_shape)
        value = _loss(net.model, net.tensors, batch.x, batch, loss)
        found = {}
        for tensor in net.model.tensors:
            if tensor.trainable:
                found[tensor.name] = _gradient(net, batch, loss, tensor.name)
        return Gradients(float(value[0].real), found, _gradient(net, batch, loss, None))

    def slope(
        self, net: Net, batch: Batch, loss: Loss, name: str | None, direction: Array
    ) -> float:
        """The derivative of the loss along a direction in one tensor, or (None) in x: one pass for
        networks too large for a whole gradient."""
        moved = dict(net.tensors)
        x: Array = np.asarray(batch.x, np.float64)
        if name is None:
            x = x + 1j * H * direction
        else:
            moved[name] = net.tensors[name] + 1j * H * direction
        return float(_loss(net.model, moved, x, batch, loss)[0].imag / H)

    def fit(self, net: Net, samples: Samples, recipe: Recipe, plan: Plan) -> Generator[Epoch]:
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        memory: dict[str, Memory] = {name: {} for name in net.tensors}
        by_plan = replace(plan, parity=True)
        for epoch in training_epochs(net.model, len(samples.x), recipe, by_plan):
            losses, accuracies = [], []
            for update in epoch.steps():
                x = np.asarray(samples.x[update.chosen], np.float64)
                batch = Batch(x, samples.y[update.chosen], update.masks)
                now = Pass(True, update.masks)
                outputs = forward(net.model, _wide(net.tensors), batch.x[None], now)[-1]
                loss = float(loss_of(recipe.loss, outputs, batch.y)[0])
                epoch.add(loss)
                losses.append(loss)
                accuracies.append(right(recipe.loss, outputs[0], batch.y))
                gradients = self.gradients(net, batch, recipe.loss).weights
                for name, g in gradients.items():
                    net.tensors[name] = step(
                        recipe.optimizer,
                        net.tensors[name],
                        g,
                        update.learning_rate,
                        update.number + 1,
                        memory[name],
                    )
                net.tensors |= {
                    f"{net.model.names[at]}.{name}": value[0]
                    for (at, name), value in now.moved.items()
                }
            # Averaged here and not by the bookkeeping that the engines share.
            running_loss = float(np.average(losses, weights=epoch.sizes))
            known = [accuracy for accuracy in accuracies if accuracy is not None]
            running_accuracy = float(np.average(known, weights=epoch.sizes)) if known else None
            yield epoch.end_with(running_loss, running_accuracy, losses)


def _wide(tensors: Weights) -> Weights:
    return {name: values[None] for name, values in tensors.items()}


def _outputs(net: Net, batch: Batch) -> list[Array]:
    x = np.asarray(batch.x, np.float64)[None]
    return [
        y[0] for y in forward(net.model, _wide(net.tensors), x, Pass(batch.training, batch.masks))
    ]


def _loss(model: Model, tensors: Weights, x: Array, batch: Batch, loss: Loss) -> Array:
    now = Pass(batch.training, batch.masks)
    value: Array = loss_of(
        loss, forward(model, _wide(tensors), np.asarray(x)[None], now)[-1], batch.y
    )
    return value


def _gradient(net: Net, batch: Batch, loss: Loss, name: str | None) -> Array:
    """The whole gradient in one tensor, or in x: every entry is moved, in a set of its own."""
    at = np.asarray(batch.x if name is None else net.tensors[name], np.float64)
    wide: dict[str, Any] = dict(_wide(net.tensors))
    values = len(batch.x) * sum(math.prod(shape) for shape in net.model.shapes)
    at_once = max(1, BYTES // (16 * values))
    slopes = np.empty(at.size)
    for first in range(0, at.size, at_once):
        here = range(first, min(first + at_once, at.size))
        moved = np.repeat(at.reshape(1, -1).astype(complex), len(here), axis=0)
        moved[np.arange(len(here)), list(here)] += 1j * H
        moved = moved.reshape(len(here), *at.shape)
        now = Pass(batch.training, batch.masks)
        if name is None:
            outputs = forward(net.model, wide, moved, now)[-1]
        else:
            outputs = forward(
                net.model, wide | {name: moved}, np.asarray(batch.x, np.float64)[None], now
            )[-1]
        slopes[list(here)] = loss_of(loss, outputs, batch.y).imag / H
    return slopes.reshape(at.shape)
