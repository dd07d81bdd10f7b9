"""The batches of a training, gathered from the samples in the engine's layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import StackedSamples
from dlsys_bench.engines.inputs import input_arrays
from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.plan import Array


class BatchSource:
    """The batches of a training, in the engine's layout."""

    def __init__(self, samples: StackedSamples, net: Network) -> None:
        self.y = samples.y[None] if samples.shared else samples.y
        arrays = input_arrays(net.model, samples.x, net.dtype, samples.leading)
        self.inputs = [InputSource(x[None] if samples.shared else x) for x in arrays]

    def batch(
        self, order: NDArray[np.intp] | None, here: slice, shard: int
    ) -> tuple[list[Array], NDArray[Any]]:
        """Return x (R, ..., n) for each input, and y of a batch, in the form of the losses,
        (R, ..., n).

        `here` is where the batch lies in the order (R, N). Without an order, samples that all
        replicas share are returned once, as (1, ..., n). The next batch of the shard overwrites x.
        """
        x = [own.batch(order, here, shard) for own in self.inputs]
        return x, self.targets(order, here)

    def targets(self, order: NDArray[np.intp] | None, here: slice) -> NDArray[Any]:
        """Return y of a batch, as `batch` does."""
        if order is None:
            return targets(self.y[:, here])
        if len(self.y) == 1:
            return targets(self.y[0, order[:, here]])
        return targets(self.y[np.arange(len(self.y))[:, None], order[:, here]])


class InputSource:
    """The batches of one input x (1 or R, N, ...).

    The samples are rearranged once, with the channel first, so that a batch is gathered in whole
    rows.
    """

    def __init__(self, x: Array) -> None:
        # The channels of images and sequences come before the places; a vector has one axis.
        x = np.moveaxis(x, -1, 2)
        self.shape = x.shape[2:]
        self.rows = np.ascontiguousarray(x).reshape(*x.shape[:2], math.prod(self.shape))
        self.memory: dict[int, Array] = {}

    def batch(self, order: NDArray[np.intp] | None, here: slice, shard: int) -> Array:
        """Return x of a batch, as `BatchSource.batch` does."""
        replicas, _, features = self.rows.shape
        if order is None:
            # The samples of the batch are contiguous already.
            rows = self.rows[:, here]
        elif replicas == 1:
            # Unlike indexing, `take` releases the interpreter's lock.
            rows = self.rows[0].take(order[:, here], axis=0)
        else:
            rows = self.rows[np.arange(replicas)[:, None], order[:, here]]
        x = self._buffer(rows.size, shard).reshape(len(rows), features, -1)
        np.copyto(x, rows.swapaxes(1, 2))
        return x.reshape(len(rows), *self.shape, -1)

    def _buffer(self, size: int, shard: int) -> Array:
        if shard not in self.memory or self.memory[shard].size < size:
            self.memory[shard] = empty((size,), self.rows.dtype)
        return self.memory[shard][:size]


def targets(y: NDArray[Any]) -> NDArray[Any]:
    """Return y (R, N, ...) in the form of the losses, with the samples last."""
    return y.swapaxes(1, -1)
