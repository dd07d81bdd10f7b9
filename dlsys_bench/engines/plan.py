"""The random numbers of a training, drawn in numpy from a seed instead of by the engine.

Two engines that follow the same plan start from the same weights, train on the same batches in the
same order and drop the same units, so they can be compared step by step. Every draw has a separate
random stream, identified by its purpose and its index, so that no draw depends on earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.augmentation import DRAWS, Draws
from dlsys_bench.errors import BatchError, count_of
from dlsys_bench.spec.augmentation import Augmentation
from dlsys_bench.spec.initializers import Distribution
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

Array = NDArray[np.floating]
Weights = dict[str, Array]

_WEIGHTS, _ORDER, _MASK, _AUGMENT = 1, 2, 3, 4


def draw(distribution: Distribution, shape: Shape, generator: np.random.Generator | None) -> Array:
    """Draw an array of this shape from a distribution, in float64.

    A constant needs no generator.
    """
    if distribution.family == "constant":
        return np.full(shape, distribution.value)
    assert generator is not None
    if distribution.family == "uniform":
        return generator.uniform(distribution.low, distribution.high, shape)
    values = generator.standard_normal(shape)
    if distribution.family == "truncated_normal":
        # Redrawing the values outside gives the truncated distribution. It ends soon, since one in
        # twenty is redrawn.
        while (outside := np.abs(values) > 2.0).any():
            values[outside] = generator.standard_normal(int(outside.sum()))
    return values * distribution.stddev


@dataclass(frozen=True)
class Plan:
    """A seed and the random numbers that follow from it.

    With `parity`, an engine takes the order, the masks and the weights from the plan. Without, it
    shuffles and drops out natively, seeded by `seed`. `steps` ends the training after that many
    updates.

    A seed is a whole number of at least 0. An engine gives different numbers for any two seeds
    below 2**32.
    """

    seed: int
    steps: int | None = None
    parity: bool = False

    def stopping_after(self, steps: int | None) -> Plan:
        """Return the plan with this limit on the steps, if it is lower."""
        limits = [limit for limit in (self.steps, steps) if limit is not None]
        return replace(self, steps=min(limits, default=None))

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, *stream))))

    def weights(self, model: Model) -> Weights:
        """Draw the initial value of every tensor of the model, float64, by name."""
        found = {}
        for index, tensor in enumerate(model.tensors):
            distribution = tensor.initializer.distribution(tensor.fans)
            # Creating a generator takes longer than drawing a small tensor.
            stream = None if distribution.family == "constant" else self._generator(_WEIGHTS, index)
            found[tensor.name] = draw(distribution, tensor.shape, stream)
        return found

    def order(self, epoch: int, samples: int, shuffle: bool = True) -> NDArray[np.intp]:
        """Return the order of the samples in an epoch (from 1)."""
        return (
            self._generator(_ORDER, epoch).permutation(samples) if shuffle else np.arange(samples)
        )

    def masks(self, model: Model, step: int, batch: int) -> dict[int, NDArray[np.bool_]]:
        """Draw the keep mask of each dropout layer for a step (from 0), by the index of the layer,
        as arrays (batch, ...) of bool."""
        return {
            row.place: self._generator(_MASK, row.place, step).random((batch, *mask.shape))
            >= mask.drop_rate
            for row in model.table
            if (mask := row.mask) is not None
        }

    def augmentations(
        self, records: Sequence[Augmentation], shapes: Sequence[Sequence[int]], epoch: int
    ) -> list[Draws]:
        """Draw what augmentations do in an epoch (from 1), each to inputs (N, ...) of its shape.

        The draws of a sample depend on its place among the samples, and not on the order in which
        they are visited. Engines that shuffle natively follow the plan here too.
        """
        return [
            DRAWS[type(record)](record, shape, self._generator(_AUGMENT, place, epoch))
            for place, (record, shape) in enumerate(zip(records, shapes, strict=True))
        ]


def epoch_batch_sizes(samples: int, recipe: Recipe, plan: Plan) -> Iterator[list[int]]:
    """Yield the sizes of the batches of each epoch. The limits on steps of the recipe and the plan
    cut the last epoch short.

    Raises SpecError if the training is shorter than its schedule.
    """
    require_whole_schedule(samples, recipe)
    left = min((limit for limit in (recipe.steps, plan.steps) if limit is not None), default=None)
    for sizes in recipe.sizes(samples):
        yield sizes[:left]
        if left is not None:
            left -= len(sizes)
            if left <= 0:
                return


def require_whole_schedule(samples: int, recipe: Recipe) -> None:
    """Raise SpecError if a training is shorter than its schedule. A limit on the steps with a plan,
    which ends a training early on purpose, does not count."""
    if recipe.schedule is not None and recipe.schedule.length is not None:
        steps = sum(map(len, recipe.sizes(samples)))
        recipe.require_length(steps if recipe.steps is None else min(steps, recipe.steps))


def require_samples(model: Model, samples: int, reason: str) -> None:
    """Raise BatchError if a layer cannot train on a batch of so few samples.

    The message names the layer and ends with the reason why there is such a batch.
    """
    for row in model.table:
        if samples < (least := row.layer.least_samples(row.shape)):
            raise BatchError(
                f"{row.name} cannot train on a batch of {count_of(samples, 'sample')}: "
                f"expected at least {least}, because one value has no unbiased variance; {reason}"
            )


def require_batches(model: Model, samples: int, recipe: Recipe, plan: Plan) -> None:
    """Raise BatchError if a batch of a training has too few samples for a layer of the model."""
    least = max(row.layer.least_samples(row.shape) for row in model.table)
    if least > 1:
        sizes = {size for epoch in epoch_batch_sizes(samples, recipe, plan) for size in epoch}
        smallest = min(min(recipe.micro_batches(size)) for size in sizes)
        parts = "" if recipe.accumulate is None else f", each in {recipe.accumulate} parts,"
        named = f"batches of {recipe.batch_size}" if recipe.batch_sizes is None else "its batches"
        reason = f"{count_of(samples, 'sample')} in {named}{parts} make one of {smallest}"
        require_samples(model, smallest, f"{reason}: choose another batch size")


def count_steps(samples: int, recipe: Recipe, plan: Plan) -> int:
    """Return the number of updates of a training."""
    return sum(map(len, epoch_batch_sizes(samples, recipe, plan)))


def batch_slices(sizes: Iterable[int]) -> Iterator[slice]:
    """Yield the slice of each batch of these sizes in the order of its epoch."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


def split_order(order: NDArray[np.intp], sizes: Iterable[int]) -> Iterator[NDArray[np.intp]]:
    """Split the order (..., N) into batches (..., n) of these sizes."""
    return (order[..., here] for here in batch_slices(sizes))
