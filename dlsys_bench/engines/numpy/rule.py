"""What every layer's forward and backward stand on: its tensors, its gradients, its reused buffers.

Inside this engine the replica is the outermost axis and the batch the innermost: images are (R, C, H, W, N), vectors
(R, units, N). A window is then copied in whole rows of the batch, a product with a kernel leaves its result in this
same layout, and whatever is summed per channel lies in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import Layer, Shape

L = TypeVar("L", bound=Layer)


class Rule(Generic[L]):
    """One layer at work. `tensors` and `gradients` are views (R, ...) into the network's flat vectors.

    What `forward` and `backward` return lies in buffers that the next call overwrites; `backward` may use its `dy` as
    scratch. `backward` follows the `forward` that it belongs to.
    """

    def __init__(self, layer: L, shape: Shape, tensors: Mapping[str, Array], gradients: Mapping[str, Array]) -> None:
        self.layer, self.shape = layer, shape
        self.tensors, self.gradients = tensors, gradients
        self._buffers: dict[str, NDArray[Any]] = {}

    def buffer(self, name: str, shape: Shape, dtype: Any) -> NDArray[Any]:
        """Uninitialised memory of this shape, the same memory for the same name, grown when it must."""
        size = math.prod(shape)
        memory = self._buffers.get(name)
        if memory is None or memory.size < size or memory.dtype != dtype:
            memory = self._buffers[name] = np.empty(size, dtype)
        return memory[:size].reshape(shape)

    def forward(self, x: Array, training: bool) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        raise NotImplementedError


def rows(x: Array) -> Array:
    """(R, C, ...) as (R, C, M): everything that belongs to a channel in one row."""
    return x.reshape(x.shape[0], x.shape[1], -1)
