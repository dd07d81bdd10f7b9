"""Many networks of one model that are trained side by side, to study the distribution of a result.

A replica is one network with its plan: it has its own weights, order of the samples and masks, and
may have its own learning rate and initialisers. Training it among others gives the result that its
plan gives for a single network.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from dlsys_bench.data import Samples
from dlsys_bench.engines.alignment import (
    check_plans,
    has_replica_axis,
    recipes_for_replicas,
    stack_samples,
)
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import DivergedError
from dlsys_bench.provenance import cores
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from dlsys_bench.engines.base import Engine


class Replicas(ABC):
    """R networks, R = `size`. `failures` has the error of each replica whose loss became
    non-finite; the others are trained on."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.failures: dict[int, DivergedError] = {}

    @abstractmethod
    def fit(
        self,
        samples: Samples | Sequence[Samples],
        recipes: Recipe | Sequence[Recipe],
        plans: Sequence[Plan],
    ) -> Generator[Sequence[Epoch | None]]:
        """Train, all on the same samples or each on its own, and yield the epoch of each replica
        when it ends; None for a replica that has failed.

        The seconds of an epoch are the replica's share of the time. When the training has ended, a
        replica that failed has the weights and the state from before its loss became non-finite:
        just before that batch, or in an engine that reads its losses once an epoch, at the start of
        that epoch.
        """

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Compute the outputs (R, N, ...) of all networks outside training, of x (N, ...) for all
        or (R, N, ...)."""

    @abstractmethod
    def trace(self, x: Array) -> list[Array]:
        """Compute the output (R, N, ...) of every layer outside training, in order."""

    @abstractmethod
    def weights(self, replica: int) -> Weights:
        """Copy every tensor of one network, by name."""


class OneByOne(Replicas):
    """Replicas of an engine that trains one network at a time, with these weights or those that
    follow from the plans."""

    def __init__(
        self,
        engine: Engine,
        models: Sequence[Model],
        plans: Sequence[Plan],
        weights: Sequence[Weights] | None = None,
    ) -> None:
        super().__init__(len(plans))
        # The type of a network is up to the engine, and it need not have a model.
        self.engine, self.model = engine, models[0]
        given: Sequence[Weights | None] = weights or [
            plan.weights(model) if plan.parity else None
            for model, plan in zip(models, plans, strict=True)
        ]
        self.nets = [
            engine.build(model, own, seed=plan.seed)
            for model, own, plan in zip(models, given, plans, strict=True)
        ]

    @classmethod
    def of(
        cls, replicas: Replicas, engine: Engine, model: Model, plans: Sequence[Plan]
    ) -> OneByOne:
        """Return single networks with the weights of replicas."""
        weights = [replicas.weights(replica) for replica in range(replicas.size)]
        return cls(engine, [model] * replicas.size, plans, weights)

    def fit(
        self,
        samples: Samples | Sequence[Samples],
        recipes: Recipe | Sequence[Recipe],
        plans: Sequence[Plan],
    ) -> Generator[list[Epoch | None]]:
        """Train, and yield every epoch."""
        check_plans(plans, self.size)
        every = recipes_for_replicas(recipes, self.size)
        parts = stack_samples(samples, self.size)
        self.failures = {}
        with contextlib.ExitStack() as stopping:
            trainings = []
            for replica, (net, recipe) in enumerate(zip(self.nets, every, strict=True)):
                training = self.engine.fit(net, parts.of(replica), recipe, plans[replica])
                trainings.append(stopping.enter_context(closing(training)))
            # Replicas have equally many epochs, except those that fail.
            while any(epochs := [self._next(r, each) for r, each in enumerate(trainings)]):
                yield epochs

    def _next(self, replica: int, training: Iterator[Epoch]) -> Epoch | None:
        before = self.engine.weights(self.nets[replica])
        try:
            return next(training, None)
        except DivergedError as error:
            self.failures[replica] = error
            # Engines such as Keras end the epoch with the NaN of the loss in their weights.
            after = self.engine.weights(self.nets[replica])
            if not all(np.isfinite(values).all() for values in after.values()):
                self.nets[replica] = self.engine.build(self.model, before)
            return None

    def predict(self, x: Array) -> Array:
        """Compute the outputs outside training."""
        own = has_replica_axis(x, self.model)
        return np.stack(
            [self.engine.predict(net, x[r] if own else x) for r, net in enumerate(self.nets)]
        )

    def trace(self, x: Array) -> list[Array]:
        """Compute the output of every layer."""
        from dlsys_bench.engines.base import Batch

        own = has_replica_axis(x, self.model)
        batches = [Batch(x[r] if own else x, np.empty(0), training=False) for r in range(self.size)]
        traces = [
            self.engine.trace(net, batch) for net, batch in zip(self.nets, batches, strict=True)
        ]
        return [np.stack(outputs) for outputs in zip(*traces, strict=True)]

    def weights(self, replica: int) -> Weights:
        """Copy all tensors by name."""
        return self.engine.weights(self.nets[replica])


def fit_one_by_one(
    replicas: Replicas,
    single: OneByOne,
    load: Callable[[Weights, int], None],
    samples: Samples | Sequence[Samples],
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
) -> Generator[list[Epoch | None]]:
    """Train replicas as `single` networks with their weights, where they cannot train as one
    program, and yield every epoch. `load` puts the tensors of a network into a replica."""

    def finish() -> None:
        replicas.failures = single.failures
        for replica in range(single.size):
            load(single.weights(replica), replica)

    for epochs in single.fit(samples, recipes, plans):
        finish()
        yield epochs
    finish()


Block = TypeVar("Block")


def in_blocks(
    engine: Engine,
    model: Model,
    recipe: Recipe,
    count: int,
    work: Callable[[range], Block],
    workers: int | None = None,
) -> list[Block]:
    """Call `work` on `count` replicas, in blocks of the size that suits the engine, and return the
    results in order.

    An engine that is threaded works on as many blocks at a time as there are cores (or `workers`).
    Each operation runs on one thread, since networks this small lose more by sharing an operation
    than they gain. If the engine draws the masks of dropout, a replica may depend on the others in
    its block; otherwise it does not.
    """
    threads = (workers or cores()) if engine.threaded else 1
    size = min(engine.replicas_at_once(model, recipe), math.ceil(count / threads)) if count else 1
    blocks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    with threadpool_limits(1):
        if threads == 1:
            return [work(block) for block in blocks]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, blocks))
