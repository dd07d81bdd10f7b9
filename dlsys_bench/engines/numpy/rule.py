"""What every layer's forward and backward stand on: its tensors, its gradients, its reused buffers.

Inside this engine the replica is the outermost axis and the batch the innermost: images are (R, C,
H, W, N), vectors (R, units, N). A window is then copied in whole rows of the batch, a product with
a kernel leaves its result in this same layout, and whatever is summed per channel lies in one
piece.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.memory import empty
from dlsys_bench.engines.numpy.shards import ShardPass
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Layer, Shape

L = TypeVar("L", bound=Layer)


class LayerRule(Generic[L]):
    """One layer at work. `tensors` and `gradients` are views (R, ...) into the network's flat
    vectors.

    What `forward` and `backward` return lies in buffers that the next call overwrites; `backward`
    may use its `dy` as scratch. `backward` follows the `forward` that it belongs to. One that
    `meets` needs, of a batch in shards, what the other shards have; the rule of one shard `leads`,
    and moves what all of them share.
    """

    exchanges = False
    updates_state = True

    def __init__(
        self, layer: L, shape: Shape, tensors: Mapping[str, Array], gradients: Mapping[str, Array]
    ) -> None:
        self.layer, self.shape = layer, shape
        self.tensors, self.gradients = tensors, gradients
        self._buffers: dict[str, NDArray[Any]] = {}
        self._last: dict[str, NDArray[Any]] = {}

    def buffer(self, name: str, shape: Shape, dtype: Any) -> NDArray[Any]:
        """Uninitialised memory of this shape, from the start of a cache line; for the same name the
        same, grown when it must."""
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
        raise NotImplementedError

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        raise NotImplementedError

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """`forward` of one shard, in training."""
        raise NotImplementedError

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        """`backward` of one shard: fill the gradients with its part."""
        raise NotImplementedError


# Of a product with fewer results than this numpy keeps the interpreter's lock: no other shard gets
# on meanwhile.
MIN_UNLOCKED_RESULTS = 500


def dots(a: Array, b: Array, n: int) -> Array:
    """The sums of a b by channel, (R, C, M) -> (R, C): over the batch of n first, for the sake of
    the lock."""
    found: Array = np.vecdot(a.reshape(*a.shape[:2], -1, n), b.reshape(*b.shape[:2], -1, n)).sum(
        axis=-1
    )
    return found


def rows(x: Array) -> Array:
    """(R, C, ...) as (R, C, M): everything that belongs to a channel in one row."""
    return x.reshape(x.shape[0], x.shape[1], -1)
