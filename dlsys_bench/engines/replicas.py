"""Many networks of one model trained side by side: what turns one draw into a distribution.

A replica is one network with its plan: its own weights, order of the data and dropout, and where the recipes say so its
own learning rate, where the models say so its own initialisers. Replica r gives what its plan gives alone.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dlsys_bench.data import Samples
from dlsys_bench.errors import DataError, DivergedError, SpecError
from dlsys_bench.plan import Array, Plan, Weights
from dlsys_bench.result import Epoch, History
from dlsys_bench.spec.initializers import Initializer, Zeros
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record

if TYPE_CHECKING:
    from dlsys_bench.engines.base import Engine

OnReplicas = Callable[[Sequence[Epoch | None]], None]
"""Gets what each replica's epoch came to, None for those that have failed."""


class Column(NamedTuple):
    """One epoch of all replicas: losses and accuracies (R,), and the losses of each step where recipes move."""

    epoch: int
    steps: int
    seconds: float
    losses: NDArray[Any]
    accuracies: NDArray[Any] | None
    recipes: Sequence[Recipe]
    sizes: Sequence[int]
    by_step: Sequence[NDArray[Any]]

    def of(self, replica: int) -> Epoch:
        """The epoch of one."""
        accuracy = None if self.accuracies is None else float(self.accuracies[replica])
        loss, recipe = float(self.losses[replica]), self.recipes[replica]
        if not recipe.moves:
            return Epoch(self.epoch, self.steps, self.seconds, loss, accuracy)
        rates = [recipe.rate(step) for step in range(self.steps - len(self.sizes), self.steps)]
        losses = [float(values[replica]) for values in self.by_step]
        by_step = {"learning_rate": rates, "batch_size": list(map(float, self.sizes)), "loss": losses}
        return Epoch(self.epoch, self.steps, self.seconds, loss, accuracy, by_step=by_step)


class Histories(Sequence[History]):
    """The history of each replica, made when it is asked for: thousands of networks have millions of epochs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.columns: list[Column] = []
        self.ends: dict[int, int] = {}

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, replica: int) -> History: ...
    @overload
    def __getitem__(self, replica: slice) -> Sequence[History]: ...
    def __getitem__(self, replica: int | slice) -> History | Sequence[History]:
        if isinstance(replica, slice):
            return [self[number] for number in range(self.size)[replica]]
        place = range(self.size)[replica]
        return [column.of(place) for column in self.columns[: self.ends.get(place)]]

    def end(self, replica: int) -> None:
        """It failed: its history ends with the last epoch that was added."""
        self.ends[replica] = len(self.columns)

    def add(self, column: Column) -> None:
        """Add an epoch of all replicas that have not ended."""
        self.columns.append(column)

    def last(self) -> list[Epoch | None]:
        """The epoch that was just added, of each replica; None for those that have ended."""
        return [None if replica in self.ends else self.columns[-1].of(replica) for replica in range(self.size)]


class Replicas(ABC):
    """R networks, `size` of them. `failures` holds, by replica, where a loss left the finite; the others go on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.failures: dict[int, DivergedError] = {}

    @abstractmethod
    def fit(
        self, samples: Samples | Sequence[Samples], recipes: Recipe | Sequence[Recipe], plans: Sequence[Plan],
        on_epoch: OnReplicas | None = None,
    ) -> Sequence[History]:  # fmt: skip
        """Train, all on the same samples or each on its own, and return a history each. An epoch's seconds are the
        replica's share of the time. One that fails keeps the weights and the epochs that it had."""

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """What each network gives outside training. x (N, ...) for all, or (R, N, ...), each its own -> (R, N, ...)."""

    @abstractmethod
    def trace(self, x: Array) -> list[Array]:
        """The output (R, N, ...) of every layer outside training, in order."""

    @abstractmethod
    def weights(self, replica: int) -> Weights:
        """A copy of every tensor of one network, by name."""


class OneByOne(Replicas):
    """Replicas of an engine that trains one network at a time."""

    def __init__(self, engine: Engine, models: Sequence[Model], plans: Sequence[Plan]) -> None:
        super().__init__(len(plans))
        self.engine = engine
        self.nets = [
            engine.build(model, plan.weights(model) if plan.parity else None, seed=plan.seed)
            for model, plan in zip(models, plans, strict=True)
        ]

    def fit(
        self, samples: Samples | Sequence[Samples], recipes: Recipe | Sequence[Recipe], plans: Sequence[Plan],
        on_epoch: OnReplicas | None = None,
    ) -> list[History]:  # fmt: skip
        every = aligned(recipes, self.size)
        parts = stack(samples, self.size)
        histories: list[History] = []
        for replica, (net, recipe, plan) in enumerate(zip(self.nets, every, plans, strict=True)):
            history: History = []
            try:
                self.engine.fit(net, parts.of(replica), recipe, plan, history.append)
            except DivergedError as error:
                self.failures[replica] = error
            histories.append(history)
        for epoch in range(max(map(len, histories), default=0)):
            if on_epoch is not None:
                on_epoch([history[epoch] if epoch < len(history) else None for history in histories])
        return histories

    def predict(self, x: Array) -> Array:
        own = is_own(x, self.nets[0].model)
        return np.stack([self.engine.predict(net, x[r] if own else x) for r, net in enumerate(self.nets)])

    def trace(self, x: Array) -> list[Array]:
        from dlsys_bench.engines.base import Batch

        own = is_own(x, self.nets[0].model)
        batches = [Batch(x[r] if own else x, np.empty(0), training=False) for r in range(self.size)]
        traces = [self.engine.trace(net, batch) for net, batch in zip(self.nets, batches, strict=True)]
        return [np.stack(outputs) for outputs in zip(*traces, strict=True)]

    def weights(self, replica: int) -> Weights:
        return self.engine.weights(self.nets[replica])


Block = TypeVar("Block")


def in_blocks(
    engine: Engine, model: Model, recipe: Recipe, count: int, work: Callable[[range], Block], workers: int | None = None
) -> list[Block]:
    """`work` done on so many replicas in blocks as large as suits the engine; the results in order.

    An engine that is threaded does as many blocks at a time as there are cores (or `workers`). Operations run on one
    thread each: those on networks this small lose more by sharing than they gain. Where dropout is the engine's own, a
    replica may depend on which others are in its block; else it does not.
    """
    threads = (workers or len(os.sched_getaffinity(0))) if engine.threaded else 1
    size = min(engine.replicas_at_once(model, recipe), math.ceil(count / threads)) if count else 1
    blocks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    with threadpool_limits(1):
        if threads == 1:
            return [work(block) for block in blocks]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, blocks))


class Stack(NamedTuple):
    """Samples of all replicas: x (N, ...) and y (N, ...) where they are shared, (R, N, ...) where each has its own."""

    x: NDArray[Any]
    y: NDArray[Any]
    shared: bool

    @property
    def samples(self) -> int:
        """N, of each replica."""
        return len(self.x) if self.shared else self.x.shape[1]

    def of(self, replica: int) -> Samples:
        """The samples of one."""
        return Samples(self.x, self.y) if self.shared else Samples(self.x[replica], self.y[replica])


def stack(samples: Samples | Sequence[Samples], size: int) -> Stack:
    """The samples of R replicas in one. Errors: DataError where their number or their shapes differ."""
    if isinstance(samples, Samples):
        return Stack(samples.x, samples.y, shared=True)
    if len(samples) != size:
        raise DataError(f"{size} replicas take the samples of all, or {size} of their own, not {len(samples)}")
    first = samples[0]
    for replica, own in enumerate(samples):
        if own.x.shape != first.x.shape or own.y.shape != first.y.shape:
            raise DataError(
                f"replica {replica} has samples of shape {own.x.shape} and {own.y.shape}, replica 0 of "
                f"{first.x.shape} and {first.y.shape}: replicas that train as one have data of one shape"
            )
    return Stack(np.stack([own.x for own in samples]), np.stack([own.y for own in samples]), shared=False)


def is_own(x: Array, model: Model) -> bool:
    """Whether x (R, N, ...) has a part for each replica, rather than (N, ...) for all."""
    return x.ndim == len(model.input_shape) + 2


def aligned(recipes: Recipe | Sequence[Recipe], size: int) -> list[Recipe]:
    """A recipe for each replica. Errors: SpecError unless they differ in the learning rate alone."""
    if isinstance(recipes, Recipe):
        return [recipes] * size
    if len(recipes) != size:
        raise SpecError(f"{size} replicas take one recipe, or {size}, not {len(recipes)}")

    def without_rate(recipe: Recipe) -> Recipe:
        return replace(recipe, optimizer=replace(recipe.optimizer, learning_rate=0.0), schedule=None)

    _same([without_rate(recipe) for recipe in recipes], "recipes differ in the learning rate or its schedule alone")
    return list(recipes)


def alike(models: Model | Sequence[Model], size: int) -> list[Model]:
    """A model for each replica. Errors: SpecError for no replicas, or unless they differ in the initialisers alone."""
    if size < 1:
        raise SpecError(f"replicas is {size}; it takes a whole number from 1")
    if isinstance(models, Model):
        return [models] * size
    if len(models) != size:
        raise SpecError(f"{size} replicas take one model, or {size}, not {len(models)}")

    def without_start(record: Record) -> Record:
        return Zeros() if isinstance(record, Initializer) else record

    _same([replace(model.map(without_start), name="") for model in models], "models differ in the initialisers alone")
    return list(models)


def check_plans(plans: Sequence[Plan]) -> None:
    """Raise a SpecError unless the plans differ in their seeds alone."""
    for replica, plan in enumerate(plans):
        if (plan.steps, plan.parity) != (plans[0].steps, plans[0].parity):
            raise SpecError(
                f"replica {replica} has a plan of steps={plan.steps}, parity={plan.parity}, replica 0 of "
                f"steps={plans[0].steps}, parity={plans[0].parity}: replicas that train as one differ in the seed alone"
            )


def _same(records: Sequence[Record], rule: str) -> None:
    for replica, record in enumerate(records):
        if record is not records[0] and record != records[0]:
            mine, first = record.to_dict(), records[0].to_dict()
            name = next(name for name in {**mine, **first} if mine.get(name) != first.get(name))
            raise SpecError(
                f"replica {replica} has {name} {mine.get(name)!r}, replica 0 {first.get(name)!r}: "
                f"replicas that train as one have {rule}"
            )
