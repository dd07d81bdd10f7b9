"""The training loop: R networks as one program, R = 1 the common case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import Stack
from dlsys_bench.engines.histories import Column, Histories
from dlsys_bench.engines.numpy.losses import hits, value_and_gradient
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import STEPPERS
from dlsys_bench.engines.numpy.threads import one_thread
from dlsys_bench.engines.replicas import OnReplicas
from dlsys_bench.errors import DivergedError
from dlsys_bench.plan import Array, Plan, cut, epochs_of
from dlsys_bench.spec.recipe import Recipe

Failures = dict[int, DivergedError]


def train(
    net: Network, samples: Stack, recipes: Sequence[Recipe], plans: Sequence[Plan], on_epoch: OnReplicas | None = None
) -> tuple[Histories, Failures]:
    """Train R replicas. Returns their histories, and where a loss left the finite; such a replica goes back to the
    weights that its last finite batch left, and its history ends before that epoch."""
    recipe, size = recipes[0], net.replicas
    stepper = STEPPERS[type(recipe.optimizer)](recipe.optimizer, net.parameters)
    net.seed([plan.seed for plan in plans])
    # A training that an error stopped has left its masks.
    net.keep(None)
    source, rates = Source(samples, net.dtype), _rates(recipes, net.dtype)
    histories, failures = Histories(size), Failures()
    kept: dict[int, tuple[Array, Array]] = {}
    step = 0
    # What overflows is found in the loss and named there.
    with one_thread(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for epoch, sizes in enumerate(epochs_of(samples.samples, recipe, plans[0]), start=1):
            started = time.perf_counter()
            losses, right = np.zeros(size), np.zeros(size)
            by_step: list[Array] = []
            order = _orders(plans, epoch, samples.samples, recipe.shuffle)
            for batch, (x, y) in enumerate(source.batches(order, sizes), start=1):
                if plans[0].parity:
                    net.keep([plan.masks(net.model, step, x.shape[-1]) for plan in plans])
                before = net.state.copy()
                outputs = net.forward(x, training=True)
                values, dy = value_and_gradient(recipe.loss, outputs, y)
                if not np.isfinite(values).all():
                    for lost in set(np.flatnonzero(~np.isfinite(values)).tolist()) - set(failures):
                        failures[lost] = DivergedError(epoch, batch, float(values[lost]))
                        kept[lost] = net.parameters[lost].copy(), before[lost]
                        histories.end(lost)
                    if len(failures) == size:
                        break
                found = hits(recipe.loss, outputs, y)
                net.backward(dy)
                stepper.step(net.parameters, net.gradient, rates(step))
                losses += values * x.shape[-1]
                right += 0 if found is None else found
                if recipe.moves:
                    by_step.append(values)
                step += 1
            if len(failures) == size:
                break
            seconds, seen = (time.perf_counter() - started) / size, sum(sizes)
            accuracies = None if recipe.loss.targets == "values" else right / seen
            histories.add(Column(epoch, step, seconds, losses / seen, accuracies, recipes, sizes, by_step))
            if on_epoch is not None:
                on_epoch(histories.last())
    net.keep(None)
    for replica, (parameters, state) in kept.items():
        net.parameters[replica], net.state[replica] = parameters, state
    return histories, failures


def _orders(plans: Sequence[Plan], epoch: int, samples: int, shuffle: bool) -> NDArray[np.intp] | None:
    """The order of each replica's samples (R, N); None where all take them as they come."""
    return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None


def _rates(recipes: Sequence[Recipe], dtype: np.dtype[Any]) -> Callable[[int], float | Array]:
    """The learning rate of a step: of all, or (R, 1) of each."""
    if all(recipe is recipes[0] for recipe in recipes):
        return recipes[0].rate
    return lambda step: np.array([[recipe.rate(step)] for recipe in recipes], dtype)


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
        places = np.arange(count)[None] if order is None else order
        for indices in cut(places, sizes):
            if order is None:
                # Side by side already: no row need be looked up.
                here = slice(indices[0, 0], indices[0, -1] + 1)
                rows, y = self.rows[:, here], self.y[:, here]
            elif replicas == 1:
                rows, y = self.rows[0, indices], self.y[0, indices]
            else:
                rows, y = self.rows[own, indices], self.y[own, indices]
            x = self._buffer(rows.size).reshape(len(rows), features, -1)
            np.copyto(x, rows.swapaxes(1, 2))
            yield x.reshape(len(rows), *self.shape, -1), targets(y)

    def _buffer(self, size: int) -> Array:
        if self.memory.size < size:
            self.memory = np.empty(size, self.rows.dtype)
        return self.memory[:size]


def targets(y: NDArray[Any]) -> NDArray[Any]:
    """Labels or signs (R, N) as they are, values (R, N, K) -> (R, K, N)."""
    return y if y.ndim == 2 else y.swapaxes(1, 2)
