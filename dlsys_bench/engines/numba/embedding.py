"""The embedding of token ids, in one pass. The numpy engine documents the computation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy.embedding import EmbeddingRule
from dlsys_bench.engines.plan import Array


@kernel
def look_up(table: Array, ids: NDArray[np.intp], y: Array) -> None:
    """Compute y (units, M) from ids (M,) and a table (tokens, units)."""
    for u in range(y.shape[0]):
        row = y[u]
        for m in range(ids.size):
            row[m] = table[ids[m], u]


@kernel
def add_up(dy: Array, ids: NDArray[np.intp], gradient: Array) -> None:
    """Compute the gradient of a table from dy (units, M)."""
    gradient[:] = 0
    for u in range(dy.shape[0]):
        row = dy[u]
        for m in range(ids.size):
            gradient[ids[m], u] += row[m]


class FusedEmbeddingRule(EmbeddingRule):
    """An embedding in compiled passes."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y (R, units, T, N) from token ids (1 or R, T, N)."""
        table = self.tensors["embeddings"]
        # Compiled code does not check that an id is in the table.
        self.ids = np.clip(x, 0, table.shape[1] - 1).astype(np.intp).reshape(len(x), -1)
        y = self.buffer("y", (len(table), self.layer.units, *x.shape[1:]), table.dtype)
        for replica, own in enumerate(y):
            look_up(table[replica], self.ids[replica % len(x)], own.reshape(len(own), -1))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients."""
        for replica, own in enumerate(np.ascontiguousarray(dy)):
            ids = self.ids[replica % len(self.ids)]
            add_up(own.reshape(len(own), -1), ids, self.gradients["embeddings"][replica])
        return None
