"""The from-scratch engine: forward and backward by hand, no autodiff, no framework."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch, Engine, Gradients, OnEpoch, check_targets
from dlsys_bench.engines.numpy.losses import hits, value_and_gradient
from dlsys_bench.engines.numpy.network import Network, inward, outward
from dlsys_bench.engines.numpy.optimizers import STEPPERS
from dlsys_bench.errors import DivergedError
from dlsys_bench.plan import Array, Plan, Weights, cut, steps_of
from dlsys_bench.result import Epoch, History
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

PREDICTED_AT_ONCE = 128


class NumpyEngine(Engine):
    """numpy in float64 for proof, in float32 for speed. It follows either convention, Keras's unless asked."""

    name = "numpy"
    convention = "keras"
    conventions = ("keras", "torch")

    def check(self, *records: Any) -> None:
        """Every record is followed as it stands, mixed conventions too."""

    def build(self, model: Model, weights: Weights | None = None, *, seed: int = 0) -> Network:
        net = Network(model, self.dtype)
        net.load(Plan(seed).weights(model) if weights is None else weights)
        net.seed(seed)
        return net

    def weights(self, net: Network) -> Weights:
        return {name: tensor[0].copy() for name, tensor in net.tensors.items()}

    def _inward(self, x: NDArray[Any]) -> Array:
        return np.ascontiguousarray(inward(x), dtype=self.dtype)

    def predict(self, net: Network, x: Array) -> Array:
        outputs = np.empty((len(x), *net.model.output_shape), self.dtype)
        for start in range(0, len(x), PREDICTED_AT_ONCE):
            here = slice(start, start + PREDICTED_AT_ONCE)
            outputs[here] = outward(net.forward(self._inward(x[here]), training=False))
        return outputs

    def gradients(self, net: Network, batch: Batch, loss: Loss) -> Gradients:
        check_targets(loss, batch.y, net.model.output_shape)
        state = net.state.copy()
        net.keep(batch.masks)
        outputs = net.forward(self._inward(batch.x), batch.training)
        value, dy = value_and_gradient(loss, outputs, _targets(batch.y))
        dx = net.backward(dy, wants_dx=True)
        assert dx is not None
        net.state[...] = state
        net.keep(None)
        weights = {name: gradient[0].copy() for name, gradient in net.gradients.items()}
        return Gradients(float(value[0]), weights, outward(dx).copy())

    def trace(self, net: Network, batch: Batch) -> list[Array]:
        state = net.state.copy()
        net.keep(batch.masks)
        outputs, x = [], self._inward(batch.x)
        for rule in net.rules:
            x = rule.forward(x, batch.training)
            outputs.append(outward(x).copy())
        net.state[...] = state
        net.keep(None)
        return outputs

    def fit(
        self, net: Network, samples: Samples, recipe: Recipe, plan: Plan, on_epoch: OnEpoch | None = None
    ) -> History:
        check_targets(recipe.loss, samples.y, net.model.output_shape)
        stepper = STEPPERS[type(recipe.optimizer)](recipe.optimizer, net.parameters)
        net.seed(plan.seed)
        source = _Source(samples, self.dtype)
        last, step, history = steps_of(len(samples.x), recipe, plan), 0, []
        for epoch in range(1, recipe.epochs + 1):
            started = time.perf_counter()
            loss_sum, hit_sum, seen = 0.0, 0, 0
            order = plan.order(epoch, len(samples.x), recipe.shuffle)
            for batch, (x, y) in enumerate(source.batches(order, recipe.batch_size), start=1):
                if plan.parity:
                    net.keep(plan.masks(net.model, step, x.shape[-1]))
                outputs = net.forward(x, training=True)
                values, dy = value_and_gradient(recipe.loss, outputs, y)
                value = float(values[0])
                if not math.isfinite(value):
                    raise DivergedError(epoch, batch, value)
                right = hits(recipe.loss, outputs, y)
                net.backward(dy)
                stepper.step(net.parameters, net.gradient)
                size = x.shape[-1]
                loss_sum += value * size
                hit_sum += 0 if right is None else int(right[0])
                seen += size
                step += 1
                if step == last:
                    break
            accuracy = None if recipe.loss.targets == "values" else hit_sum / seen
            record = Epoch(epoch, step, time.perf_counter() - started, loss_sum / seen, accuracy)
            history.append(record)
            if on_epoch is not None:
                on_epoch(record)
            if step == last:
                break
        net.keep(None)
        return history


def _targets(y: NDArray[Any]) -> NDArray[Any]:
    """Labels (N,) -> (1, N), values (N, K) -> (1, K, N)."""
    return y[None] if y.ndim == 1 else y.T[None]


class _Source:
    """Batches in the engine's layout, gathered row by row from samples laid out channel first once."""

    def __init__(self, samples: Samples, dtype: str) -> None:
        x = samples.x
        self.shape = (x.shape[3], x.shape[1], x.shape[2]) if x.ndim == 4 else x.shape[1:]
        channel_first = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
        self.rows = np.ascontiguousarray(channel_first, dtype=dtype).reshape(len(x), -1)
        self.y = samples.y
        self.memory = np.empty(0, dtype)

    def batches(self, order: NDArray[np.intp], batch_size: int) -> Iterator[tuple[Array, NDArray[Any]]]:
        """X (1, ..., N) in memory that the next batch overwrites, and y."""
        features = self.rows.shape[1]
        if self.memory.size < batch_size * features:
            self.memory = np.empty(batch_size * features, self.rows.dtype)
        for indices in cut(order, batch_size):
            x = self.memory[: len(indices) * features].reshape(features, len(indices))
            np.copyto(x, self.rows[indices].T)
            yield x.reshape(1, *self.shape, len(indices)), _targets(self.y[indices])
