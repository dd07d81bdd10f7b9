"""The steps of a call of a program: their batches, and the masks of their dropout layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.normalization import least_number
from dlsys_bench.engines.numba.program.translation import ProgramTable
from dlsys_bench.engines.numba.program.work import Batches
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.plan import Array

StepMasks = Mapping[int, NDArray[np.bool_]]
"""What each dropout layer keeps in a step, by its place."""


def shards_of(net: Network, samples: int) -> int:
    """Return the number of shards into which the rules divide a batch."""
    return len(net.shard_slices(samples))


def batches_of(
    table: ProgramTable,
    net: Network,
    most: int,
    bounds: NDArray[np.intp],
    optimizer: tuple[Array, NDArray[np.float64]],
    masks: Callable[[int], StepMasks] | None,
) -> Batches:
    """Return steps of at most `most` samples, with the rates and the numbers of the optimiser, and
    the keys of their masks or, if the plan has `masks`, those."""
    dropouts, sizes = table.dropouts, (bounds[:, 1] - bounds[:, 0]).tolist()
    shards = np.array([shards_of(net, size) for size in sizes])
    keys, given = np.zeros((0, 0, 0), np.uint64), np.empty((0, 0), np.bool_)
    if masks is None:
        keys = _keys(dropouts, net, shards)
    elif dropouts:
        given = np.zeros((len(bounds), table.sizes["masks"] * most), np.bool_)
        for step, (size, count) in enumerate(zip(sizes, shards.tolist(), strict=True)):
            _copy_masks(masks(step), table, most, (size, count), given[step])
    rates = [net.dropouts[index].layer.drop_rate for index in dropouts]
    least = np.array([least_number(rate) for rate in rates], np.int64)
    return Batches(bounds, shards, *optimizer, keys, table.masks, least, given)


def _keys(dropouts: tuple[int, ...], net: Network, shards: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Draw the keys of the masks (steps, shards, dropouts), as the rules of each shard do."""
    keys = np.zeros((len(shards), shards.max(), len(dropouts)), np.uint64)
    for shard, own in enumerate(net.shards(int(shards.max())) if dropouts else ()):
        steps = shards > shard
        for column, index in enumerate(dropouts):
            generator = own.dropouts[index].generators[0]
            drawn = generator.integers(2**64, size=int(steps.sum()), dtype=np.uint64)
            keys[steps, shard, column] = drawn
    return keys


def _copy_masks(
    masks: StepMasks, table: ProgramTable, most: int, split: tuple[int, int], given: Any
) -> None:
    """Copy the masks of a step to a flat array: of each layer and shard, (units, samples). The
    batch is split in a number of shards."""
    size, shards = split
    for (place, units), index in zip(table.masks, table.dropouts, strict=True):
        for shard in range(shards):
            begin, end = size * shard // shards, size * (shard + 1) // shards
            # As the engine orders the axes: the last one first, and the samples last.
            flat = masks[index][begin:end].swapaxes(0, -1).ravel()
            first = place * most + units * begin
            given[first : first + flat.size] = flat
