"""The embedding of token ids."""

from __future__ import annotations

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Embedding


class EmbeddingRule(LayerRule[Embedding]):
    """y[:, t, n] = embeddings[x[t, n]]. Token ids have no gradient."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y (R, units, T, N) from token ids (1 or R, T, N)."""
        self.x, table = x, self.tensors["embeddings"]
        y = self.buffer("y", (len(table), self.layer.units, *x.shape[1:]), table.dtype)
        for replica, own in enumerate(table):
            np.take(own.T, x[replica % len(x)], axis=1, out=y[replica], mode="clip")
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients."""
        for replica, own in enumerate(self.gradients["embeddings"]):
            own.fill(0)
            ids = self.x[replica % len(self.x)].reshape(-1)
            np.add.at(own, ids, dy[replica].reshape(self.layer.units, -1).T)
        return None
