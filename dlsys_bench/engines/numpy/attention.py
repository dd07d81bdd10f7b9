"""Multi-head attention, of a sequence to itself or to a context."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlsys_bench.engines.numpy.dropout import MaskedRule
from dlsys_bench.engines.numpy.rule import rows
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import MultiHeadAttention


class AttentionRule(MaskedRule[MultiHeadAttention]):
    """The output of a head is w v, with the weights w = softmax(q k^T / sqrt(size)), row by row.

    Queries are products of x with their kernel, and keys and values those of the context, which is
    x unless the layer takes another, for all positions and samples at once. What follows is
    computed for each head and sample: (R, heads, N, T, size), so that a product of the last two
    axes is one of positions with positions.
    """

    def forward(self, x: Any, training: bool) -> Array:
        """Compute y (R, C, T, N) from x, or from x and the context (R, D, S, N)."""
        layer = self.layer
        attending, context = x if layer.context else (x, x)
        t, n = attending.shape[2:]
        self.x, self.context = rows(attending), rows(context)
        self.query = self._split(self._project("query", self.x), t)
        self.key, self.value = (
            self._split(self._project(name, self.context), context.shape[2])
            for name in ("key", "value")
        )
        self.scale = attending.dtype.type(1.0 / math.sqrt(layer.size(self.shape)))
        scores = self.query @ self.key.swapaxes(-1, -2)
        scores *= self.scale
        if layer.causal:
            # The exponential of minus infinity is zero: no weight is left for later positions.
            scores[..., np.triu(np.ones((t, t), np.bool_), 1)] = -np.inf
        # Less the largest score, no exponential overflows.
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        self.weights = scores
        kept = self.scales(n, scores.dtype, training)
        # (R, keys, heads, queries, N) -> (R, heads, N, queries, keys)
        self.kept = None if kept is None else kept.transpose(0, 2, 4, 3, 1)
        self.used = scores if self.kept is None else scores * self.kept
        self.mixed = self._joined(self.used @ self.value)
        y = self._project("output", self.mixed)
        return y.reshape(*y.shape[:2], t, n)

    def backward(self, dy: Array, wants_dx: bool) -> Any:
        """Fill the gradients, and return dx if it is wanted, or those in x and in the context.

        For one head and sample, with the weights w before and u after dropout, and o = u v::

            d_v = u^T d_o               d_u = d_o v^T
            d_w = d_u, where kept       d_s = w (d_w - sum(d_w w)), row by row, of the softmax
            d_q = d_s k / sqrt(size)    d_k = d_s^T q / sqrt(size)

        A row of w sums to one, hence the sum in d_s. It is zero where w is, at later positions. The
        context is taken twice, so its gradient is the sum of two; without another context, x is
        taken three times.
        """
        t, n = dy.shape[2:]
        d_mixed = self._back("output", self.mixed, rows(dy), wanted=True)
        d_out = self._split(d_mixed, t)
        d_value = self.used.swapaxes(-1, -2) @ d_out
        d_weights = d_out @ self.value.swapaxes(-1, -2)
        if self.kept is not None:
            d_weights *= self.kept
        d_scores = d_weights
        d_scores -= (d_weights * self.weights).sum(axis=-1, keepdims=True)
        d_scores *= self.weights
        d_scores *= self.scale
        parts = {
            "query": (self.x, d_scores @ self.key),
            "key": (self.context, d_scores.swapaxes(-1, -2) @ self.query),
            "value": (self.context, d_value),
        }
        found = [
            self._back(name, x, self._joined(part), wants_dx) for name, (x, part) in parts.items()
        ]
        if not wants_dx:
            return None
        inputs = (found[:1], found[1:]) if self.layer.context else (found,)
        dx = [sum(each[1:], each[0]).reshape(*each[0].shape[:2], -1, n) for each in inputs]
        return dx if self.layer.context else dx[0]

    def _project(self, name: str, x: Array) -> Array:
        """Compute kernel^T x + bias for x (1 or R, C, T N)."""
        y: Array = self.tensors[f"{name}_kernel"].swapaxes(1, 2) @ x
        if self.layer.use_bias:
            y += self.tensors[f"{name}_bias"][..., None]
        return y

    def _back(self, name: str, x: Array, dy: Array, wanted: bool) -> Array:
        """Fill the gradients of a projection of x from dy (R, F, T N), and return that in x."""
        np.matmul(x, dy.swapaxes(1, 2), out=self.gradients[f"{name}_kernel"])
        if self.layer.use_bias:
            np.sum(dy, axis=-1, out=self.gradients[f"{name}_bias"])
        return self.tensors[f"{name}_kernel"] @ dy if wanted else dy

    def _split(self, y: Array, t: int) -> Array:
        """Return (R, heads size, T N) as (R, heads, N, T, size)."""
        parts = y.reshape(len(y), self.layer.heads, -1, t, y.shape[-1] // t)
        return np.ascontiguousarray(parts.transpose(0, 1, 4, 3, 2))

    def _joined(self, parts: Array) -> Array:
        """Return (R, heads, N, T, size) as (R, heads size, T N)."""
        r, heads, n, t, size = parts.shape
        return parts.transpose(0, 1, 4, 3, 2).reshape(r, heads * size, t * n)
