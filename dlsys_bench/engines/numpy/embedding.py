"""The embeddings of token ids and of positions."""

from __future__ import annotations

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Embedding, PositionEmbedding


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


class PositionEmbeddingRule(LayerRule[PositionEmbedding]):
    """y[:, t] = x[:, t] + embeddings[t], for the T positions of x."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y (R, C, T, N) from x."""
        self.t, table = x.shape[2], self.tensors["embeddings"]
        y = self.buffer("y", (len(table), *x.shape[1:]), x.dtype)
        np.add(x, table[:, : self.t].swapaxes(1, 2)[..., None], out=y)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients. Those of positions that x does not have are zero."""
        own = self.gradients["embeddings"]
        np.sum(dy.swapaxes(1, 2), axis=-1, out=own[:, : self.t])
        own[:, self.t :] = 0
        return dy
