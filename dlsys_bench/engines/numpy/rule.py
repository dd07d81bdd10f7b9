"""The base class of the layers' rules: their tensors, gradients and buffers.

Inside this engine the first axis is the replica and the last the sample: images are
(R, C, H, W, N), vectors (R, units, N). With the samples last, a window is copied in whole rows of
the batch, a product with a kernel has its result in the same layout, and all values of a channel
are contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.numpy.shards import ShardPass
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Layer, Shape

L = TypeVar("L", bound=Layer)


class LayerRule(Generic[L]):
    """The forward and the backward pass of one layer. `tensors` and `gradients` are views (R, ...)
    of the network's flat vectors. `shapes` has that of each input, and `shape` that of the first.

    A layer that merges takes a list of arrays, and returns the gradients in each.

    `forward` and `backward` return buffers that the next call overwrites, and `backward` may use
    its `dy` as scratch memory. A call of `backward` belongs to the last call of `forward`.

    A rule that `exchanges` needs results of the other shards of a batch, and implements
    `forward_shard` and `backward_shard` (see `shards`). Only the rule of the first shard
    `updates_state`, which all shards share.
    """

    exchanges = False
    updates_state = True

    def __init__(
        self,
        layer: L,
        shapes: Sequence[Shape],
        tensors: Mapping[str, Array],
        gradients: Mapping[str, Array],
    ) -> None:
        self.layer, self.shapes, self.shape = layer, shapes, shapes[0]
        self.tensors, self.gradients = tensors, gradients
        self._buffers: dict[str, NDArray[Any]] = {}
        self._last: dict[str, NDArray[Any]] = {}

    def buffer(self, name: str, shape: Shape, dtype: Any) -> NDArray[Any]:
        """Return uninitialised memory of this shape, aligned to a cache line. A name always has the
        same memory, which grows when necessary."""
        last = self._last.get(name)
        if last is not None and last.shape == shape and last.dtype == dtype:
            return last
        size = math.prod(shape)
        memory = self._buffers.get(name)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = self._buffers[name] = empty((size,), dtype)
        self._last[name] = memory[:size].reshape(shape)
        return self._last[name]

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x (1 or R, ..., N)."""
        raise NotImplementedError

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients of the tensors from dy, the gradient of the loss in y, and return dx,
        that in x, if it is wanted."""
        raise NotImplementedError

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """Compute y of one shard of a batch, in training mode."""
        raise NotImplementedError

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        """Fill the gradients with the part of one shard, and return its dx if it is wanted."""
        raise NotImplementedError


# numpy keeps the interpreter's lock (GIL) during a matrix product with fewer results than this, so
# that the threads of the other shards have to wait.
MIN_UNLOCKED_RESULTS = 500


def dots(a: Array, b: Array, n: int) -> Array:
    """Return the sums of a b per channel, (R, C, M) -> (R, C). The sums over the n samples come
    first: with that many results, numpy releases the interpreter's lock."""
    found: Array = np.vecdot(a.reshape(*a.shape[:2], -1, n), b.reshape(*b.shape[:2], -1, n)).sum(
        axis=-1
    )
    return found


def rows(x: Array) -> Array:
    """Return a view of (R, C, ...) as (R, C, M), with all values of a channel in one row."""
    return x.reshape(x.shape[0], x.shape[1], -1)
