"""The training loop: R networks as one program, R = 1 the common case."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.losses import hits, value_and_gradient
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import STEPPERS
from dlsys_bench.engines.replicas import OnReplicas, Stack
from dlsys_bench.errors import DivergedError
from dlsys_bench.plan import Array, Plan, cut, epochs_of
from dlsys_bench.result import Epoch, History
from dlsys_bench.spec.recipe import Recipe

Failures = dict[int, DivergedError]


def train(
    net: Network, samples: Stack, recipes: Sequence[Recipe], plans: Sequence[Plan], on_epoch: OnReplicas | None = None
) -> tuple[list[History], Failures]:
    """Train R replicas. Returns their histories, and where a loss left the finite; such a replica goes back to the
    weights that its last finite batch left, and its history ends before that epoch."""
    recipe, size = recipes[0], net.replicas
    stepper = STEPPERS[type(recipe.optimizer)](recipe.optimizer, net.parameters)
    net.seed([plan.seed for plan in plans])
    source = Source(samples, net.dtype)
    histories: list[History] = [[] for _ in plans]
    failures: Failures = {}
    kept: dict[int, tuple[Array, Array]] = {}
    step = 0
    # What overflows is found in the loss and named there.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch, sizes in enumerate(epochs_of(samples.samples, recipe, plans[0]), start=1):
            started = time.perf_counter()
            losses, right = np.zeros(size), np.zeros(size)
            by_step: list[Array] = []
            order = _orders(plans, epoch, samples.samples, recipe.shuffle)
            for batch, (x, y) in enumerate(source.batches(order, sizes), start=1):
                if plans[0].parity:
                    net.keep([plan.masks(net.model, step, x.shape[-1]) for plan in plans])
                outputs = net.forward(x, training=True)
                values, dy = value_and_gradient(recipe.loss, outputs, y)
                if not np.isfinite(values).all():
                    for lost in set(np.flatnonzero(~np.isfinite(values)).tolist()) - set(failures):
                        failures[lost] = DivergedError(epoch, batch, float(values[lost]))
                        kept[lost] = net.parameters[lost].copy(), net.state[lost].copy()
                    if len(failures) == size:
                        break
                found = hits(recipe.loss, outputs, y)
                net.backward(dy)
                stepper.step(net.parameters, net.gradient, _rates(recipes, step, net.dtype))
                losses += values * x.shape[-1]
                right += 0 if found is None else found
                if recipe.moves:
                    by_step.append(values)
                step += 1
            if len(failures) == size:
                break
            seconds = (time.perf_counter() - started) / size
            seen = sum(sizes)
            epochs = [
                None if replica in failures else Epoch(
                    epoch, step, seconds, float(losses[replica] / seen),
                    None if recipe.loss.targets == "values" else float(right[replica] / seen),
                    by_step=_by_step(recipes[replica], step, sizes, [values[replica] for values in by_step]),
                )
                for replica in range(size)
            ]  # fmt: skip
            for history, record in zip(histories, epochs, strict=True):
                if record is not None:
                    history.append(record)
            if on_epoch is not None:
                on_epoch(epochs)
    net.keep(None)
    for replica, (parameters, state) in kept.items():
        net.parameters[replica], net.state[replica] = parameters, state
    return histories, failures


def _orders(plans: Sequence[Plan], epoch: int, samples: int, shuffle: bool) -> NDArray[np.intp] | None:
    """The order of each replica's samples (R, N); None where all take them as they come."""
    return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None


def _rates(recipes: Sequence[Recipe], step: int, dtype: np.dtype[Any]) -> float | Array:
    """The learning rate of all, or (R, 1) of each."""
    if all(recipe is recipes[0] for recipe in recipes):
        return recipes[0].rate(step)
    return np.array([[recipe.rate(step)] for recipe in recipes], dtype)


def _by_step(recipe: Recipe, step: int, sizes: Sequence[int], losses: Sequence[float]) -> dict[str, list[float]] | None:
    if not recipe.moves:
        return None
    rates = [recipe.rate(number) for number in range(step - len(sizes), step)]
    return {"learning_rate": rates, "batch_size": list(sizes), "loss": list(map(float, losses))}


class Source:
    """Batches in the engine's layout, gathered row by row from samples laid out channel first once."""

    def __init__(self, samples: Stack, dtype: np.dtype[Any]) -> None:
        x, self.y = samples.x, samples.y
        if samples.shared:
            x, self.y = x[None], self.y[None]
        if x.ndim == 5:
            x = x.transpose(0, 1, 4, 2, 3)
        self.shape = x.shape[2:]
        self.rows = np.ascontiguousarray(x, dtype=dtype).reshape(*x.shape[:2], -1)
        self.memory = np.empty(0, dtype)

    def batches(self, order: NDArray[np.intp] | None, sizes: Sequence[int]) -> Iterator[tuple[Array, NDArray[Any]]]:
        """X (R, ..., n), in memory that the next batch overwrites, and y as the losses take it: (R, n) or (R, K, n).

        Without an order, samples that are shared come as one: (1, ..., n).
        """
        replicas, count, features = self.rows.shape
        own = np.arange(replicas)[:, None]
        if order is None:
            order = np.broadcast_to(np.arange(count), (replicas, count))
        for indices in cut(order, sizes):
            size = indices.shape[1]
            x = self._buffer(len(indices) * features * size).reshape(len(indices), features, size)
            rows = self.rows[0, indices] if replicas == 1 else self.rows[own, indices]
            np.copyto(x, rows.swapaxes(1, 2))
            y = self.y[0, indices] if replicas == 1 else self.y[own, indices]
            yield x.reshape(len(indices), *self.shape, size), targets(y)

    def _buffer(self, size: int) -> Array:
        if self.memory.size < size:
            self.memory = np.empty(size, self.rows.dtype)
        return self.memory[:size]


def targets(y: NDArray[Any]) -> NDArray[Any]:
    """Labels or signs (R, N) as they are, values (R, N, K) -> (R, K, N)."""
    return y if y.ndim == 2 else y.swapaxes(1, 2)
