"""Replicas that train as one program: what they have to share, and their stacked samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import DataError, SpecError
from dlsys_bench.spec.initializers import Initializer, Zeros
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record


class StackedSamples(NamedTuple):
    """The samples of all replicas: x and y (N, ...) if they are shared, (R, N, ...) otherwise."""

    x: NDArray[Any]
    y: NDArray[Any]
    shared: bool

    @property
    def samples(self) -> int:
        """The number of samples N of each replica."""
        return len(self.x) if self.shared else self.x.shape[1]

    @property
    def leading(self) -> int:
        """The number of axes of x and y before those of a sample."""
        return 1 if self.shared else 2

    def of(self, replica: int) -> Samples:
        """Return the samples of one replica."""
        return Samples(self.x, self.y) if self.shared else Samples(self.x[replica], self.y[replica])


def stack_samples(samples: Samples | Sequence[Samples], size: int) -> StackedSamples:
    """Stack the samples of R replicas. Raises DataError if their number or their shapes do not
    match."""
    if isinstance(samples, Samples):
        return StackedSamples(samples.x, samples.y, shared=True)
    if len(samples) != size:
        raise DataError(
            f"{size} replicas take the samples of all, or {size} of their own, not {len(samples)}"
        )
    first = samples[0]
    for replica, own in enumerate(samples):
        if own.x.dtype.names != first.x.dtype.names:
            raise DataError(
                f"replica {replica} has the inputs {own.x.dtype.names}, "
                f"replica 0 {first.x.dtype.names}: replicas that train as one have the same"
            )
        if own.x.shape != first.x.shape or own.y.shape != first.y.shape:
            raise DataError(
                f"replica {replica} has samples of shape {own.x.shape} and {own.y.shape}, "
                f"replica 0 of {first.x.shape} and {first.y.shape}: replicas that train as one "
                "have data of one shape"
            )
    return StackedSamples(
        np.stack([own.x for own in samples]), np.stack([own.y for own in samples]), shared=False
    )


def augment_replicas(
    samples: StackedSamples, recipe: Recipe, plans: Sequence[Plan], epoch: int
) -> StackedSamples:
    """Return the samples of an epoch, augmented for each replica by its own plan; several replicas
    then share no samples."""
    if not recipe.augment:
        return samples
    every = [augment(samples.of(r).x, recipe, plan, epoch) for r, plan in enumerate(plans)]
    if samples.shared and len(plans) == 1:
        return samples._replace(x=every[0])
    y = samples.y
    if samples.shared:
        y = np.broadcast_to(y, (len(plans), *y.shape))
    return StackedSamples(np.stack(every), y, shared=False)


def has_replica_axis(x: Array, model: Model) -> bool:
    """Return whether x is (R, N, ...), one part per replica, and not (N, ...) for all."""
    return x.ndim == len(model.input_shape) + 2


def recipes_for_replicas(recipes: Recipe | Sequence[Recipe], size: int) -> list[Recipe]:
    """Return a recipe for each replica. Raises SpecError if they differ in more than the learning
    rate."""
    if isinstance(recipes, Recipe):
        return [recipes] * size
    if len(recipes) != size:
        raise SpecError(f"{size} replicas take one recipe, or {size}, not {len(recipes)}")

    def without_rate(recipe: Recipe) -> Recipe:
        return replace(
            recipe, optimizer=replace(recipe.optimizer, learning_rate=0.0), schedule=None
        )

    _same(
        [without_rate(recipe) for recipe in recipes],
        "recipes differ in the learning rate or its schedule alone",
    )
    return list(recipes)


def models_for_replicas(models: Model | Sequence[Model], size: int) -> list[Model]:
    """Return a model for each replica. Raises SpecError if there are no replicas, or if the models
    differ in more than initialisers."""
    if size < 1:
        raise SpecError(f"replicas is {size}; expected an integer of at least 1")
    if isinstance(models, Model):
        return [models] * size
    if len(models) != size:
        raise SpecError(f"{size} replicas take one model, or {size}, not {len(models)}")

    def without_start(record: Record) -> Record:
        return Zeros() if isinstance(record, Initializer) else record

    _same(
        [replace(model.map(without_start), name="") for model in models],
        "models differ in the initialisers alone",
    )
    return list(models)


def check_plans(plans: Sequence[Plan], size: int) -> None:
    """Raise SpecError unless there is a plan for each replica, and they differ only in their
    seeds."""
    if len(plans) != size:
        raise SpecError(f"{size} replicas take {size} plans, not {len(plans)}")
    for replica, plan in enumerate(plans):
        if (plan.steps, plan.parity) != (plans[0].steps, plans[0].parity):
            raise SpecError(
                f"replica {replica} has a plan of steps={plan.steps}, parity={plan.parity}, "
                f"replica 0 of steps={plans[0].steps}, parity={plans[0].parity}: "
                "replicas that train as one may differ only in the seed"
            )


def _same(records: Sequence[Record], rule: str) -> None:
    for replica, record in enumerate(records):
        if record is not records[0] and record != records[0]:
            own, first = record.to_dict(), records[0].to_dict()
            name = next(name for name in {**own, **first} if own.get(name) != first.get(name))
            raise SpecError(
                f"replica {replica} has {name} {own.get(name)!r}, replica 0 {first.get(name)!r}: "
                f"replicas that train as one have {rule}"
            )
