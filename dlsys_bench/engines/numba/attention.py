"""Attention whose scores, weights and gradients are computed for vectors of samples at once, in the
layout of the projections. The numpy engine documents the computation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from dlsys_bench.engines.numba.kernel import inner_kernel, kernel
from dlsys_bench.engines.numba.program.functions import exp
from dlsys_bench.engines.numba.program.lanes import LANES, choose, fill, load, store
from dlsys_bench.engines.numba.vectors import padded
from dlsys_bench.engines.numpy.attention import AttentionRule
from dlsys_bench.engines.numpy.rule import rows
from dlsys_bench.engines.plan import Array

POSITIONS = 64
"""The most positions of `attend`, if the samples fill whole vectors. With more, the batched matrix
products of numpy are faster."""

PACKED = ("query", "key", "value")
"""The projections whose kernels are multiplied at once."""


@inner_kernel
def add_products(a: Array, b: Array, c: Array, at: Any, strides: Any, counts: Any) -> None:
    """Compute c[x] = sum of a[y] b[y, x] over y, for vectors of samples.

    All arrays are flat, and `at` is where they begin. The strides are that of a, those of b, and
    that of c; the counts are those of y and x.
    """
    (at_a, at_b, at_c), (a_y, b_y, b_x, c_x), (y_, x_) = at, strides, counts
    zero = fill(c.dtype.type(0))
    # The sums stay in registers, and each value of a is read once for four of them.
    for x in range(0, x_ - 3, 4):
        first, second, third, fourth = zero, zero, zero, zero
        here = at_b + x * b_x
        for y in range(y_):
            one, place = load(a, at_a + y * a_y), here + y * b_y
            first = first + one * load(b, place)
            second = second + one * load(b, place + b_x)
            third = third + one * load(b, place + 2 * b_x)
            fourth = fourth + one * load(b, place + 3 * b_x)
        there = at_c + x * c_x
        store(c, there, first)
        store(c, there + c_x, second)
        store(c, there + 2 * c_x, third)
        store(c, there + 3 * c_x, fourth)
    for x in range(x_ // 4 * 4, x_):
        total = zero
        for y in range(y_):
            total = total + load(a, at_a + y * a_y) * load(b, at_b + y * b_y + x * b_x)
        store(c, at_c + x * c_x, total)


@inner_kernel
def softmax(scores: Array, at: int, step: int, count: int, scale: Any) -> None:
    """Overwrite scores with the softmax of the scale times them."""
    top = load(scores, at)
    for j in range(1, count):
        one = load(scores, at + j * step)
        top = choose(one - top, one, top)
    total = fill(scores.dtype.type(0))
    for j in range(count):
        place = at + j * step
        one = exp((load(scores, place) - top) * scale)
        store(scores, place, one)
        total = total + one
    share = fill(scores.dtype.type(1)) / total
    for j in range(count):
        place = at + j * step
        store(scores, place, load(scores, place) * share)


@inner_kernel
def multiply_rows(a: Array, b: Array, c: Array, at: Any, strides: Any, count: int) -> None:
    """Compute c = a b, for a number of vectors of samples, of flat arrays."""
    for j in range(count):
        product = load(a, at[0] + j * strides[0]) * load(b, at[1] + j * strides[1])
        store(c, at[2] + j * strides[2], product)


@kernel
def attend(
    qkv: Array, kept: Array, options: Any, weights: tuple[Array, Array], mixed: Array
) -> None:
    """Compute the weighted values, as `mixed` (R, heads size, T, N).

    `qkv` (R, 3 heads size, T, N) has the queries, keys and values, and `kept` (R, keys, heads,
    queries, N) the factors of dropout; it is empty without. The weights are two arrays (R, heads,
    T, T, N), before and after dropout. The options are the shape (R, heads, size, T, N), the factor
    of the scores, and whether later positions are left out of all loops.
    """
    ((r_, heads, size, t_, n_), scale, causal), (before, after) = options, weights
    row, by = t_ * n_, (t_ * n_, t_ * n_, n_, n_)
    for one in range(r_ * heads):
        r, h = one // heads, one % heads
        for n in range(0, n_, LANES):
            query = (r * 3 * heads + h) * size * row + n
            key, value = query + heads * size * row, query + 2 * heads * size * row
            for i in range(t_):
                count, own = i + 1 if causal else t_, (one * t_ + i) * row + n
                at = query + i * n_, key, own
                add_products(qkv, qkv, before, at, by, (size, count))
                softmax(before, own, n_, count, scale)
                if kept.size:
                    at = own, ((r * t_ * heads + h) * t_ + i) * n_ + n, own
                    multiply_rows(before, kept, after, at, (n_, heads * row, n_), count)
                at = own, value, (one * size * t_ + i) * n_ + n
                add_products(after, qkv, mixed, at, (n_, n_, row, row), (count, size))


@kernel
def attend_back(
    qkv: Array, kept: Array, options: Any, weights: tuple[Array, Array], gradients: Any
) -> None:
    """Compute the gradient in `qkv` from that in `mixed`: the second of the gradients from the
    first. See `attend`."""
    ((r_, heads, size, t_, n_), scale, causal), (before, after) = options, weights
    (d_mixed, d_qkv), row = gradients, t_ * n_
    scores = np.empty(t_ * t_ * LANES, qkv.dtype)
    for one in range(r_ * heads):
        r, h = one // heads, one % heads
        for n in range(0, n_, LANES):
            query, out = (r * 3 * heads + h) * size * row + n, one * size * row + n
            key, value = query + heads * size * row, query + 2 * heads * size * row
            for i in range(t_):
                count, own, line = i + 1 if causal else t_, (one * t_ + i) * row + n, i * t_ * LANES
                at = out + i * n_, value, line
                add_products(d_mixed, qkv, scores, at, (row, row, n_, LANES), (size, count))
                if kept.size:
                    at = line, ((r * t_ * heads + h) * t_ + i) * n_ + n, line
                    multiply_rows(scores, kept, scores, at, (LANES, heads * row, LANES), count)
                total = fill(scores.dtype.type(0))
                for j in range(count):
                    place = line + j * LANES
                    total = total + load(scores, place) * load(before, own + j * n_)
                for j in range(count):
                    place = line + j * LANES
                    off = (load(scores, place) - total) * scale
                    store(scores, place, off * load(before, own + j * n_))
                at = line, key, query + i * n_
                add_products(scores, qkv, d_qkv, at, (LANES, n_, row, row), (count, size))
            for j in range(t_):
                first = j if causal else 0
                counts = t_ - first, size
                at = (first * t_ + j) * LANES, query + first * n_, key + j * n_
                add_products(scores, qkv, d_qkv, at, (t_ * LANES, n_, row, row), counts)
                at = (one * t_ + first) * row + j * n_ + n, out + first * n_, value + j * n_
                add_products(after, d_mixed, d_qkv, at, (row, n_, row, row), counts)


class FusedAttentionRule(AttentionRule):
    """Self-attention in compiled passes, if the positions are few."""

    def forward(self, x: Any, training: bool) -> Array:
        """Compute y (R, C, T, N) from x, or from x and the context."""
        layer = self.layer
        t, n = (x[0] if layer.context else x).shape[2:]
        self.fused = not layer.context and t * max(n, LANES) <= POSITIONS * n
        if not self.fused:
            return super().forward(x, training)
        self.samples, kept = n, self.scales(n, x.dtype, training)
        self.drops = (
            np.empty(0, x.dtype) if kept is None else padded(partial(self.buffer, "drops"), kept)
        )
        x = padded(partial(self.buffer, "x"), x)
        self.x, n = rows(x), x.shape[-1]
        packed = self._packed("kernel")
        r, inner = len(packed), packed.shape[-1] // 3
        size = r, layer.heads, inner // layer.heads, t, n
        self.options = size, x.dtype.type(1 / math.sqrt(size[2])), layer.causal
        self.qkv = self.buffer("qkv", (r, 3 * inner, t * n), x.dtype)
        np.matmul(packed.swapaxes(1, 2), self.x, out=self.qkv)
        if layer.use_bias:
            self.qkv += self._packed("bias")[..., None]
        before = self.buffer("weights", (r * layer.heads * t * t * n,), x.dtype)
        after = self.buffer("used", before.shape, x.dtype) if self.drops.size else before
        self.before_and_after = before, after
        self.mixed = self.buffer("mixed", (r, inner, t * n), x.dtype)
        attend(*self._given(), self.mixed.reshape(-1))
        return self._unpadded(self._project("output", self.mixed))

    def backward(self, dy: Array, wants_dx: bool) -> Any:
        """Fill the gradients, and return dx if it is wanted, or those in x and in the context."""
        if not self.fused:
            return super().backward(dy, wants_dx)
        d_mixed = self._back(
            "output", self.mixed, rows(padded(partial(self.buffer, "dy"), dy)), wanted=True
        )
        d = self.buffer("d_qkv", self.qkv.shape, dy.dtype)
        attend_back(*self._given(), (d_mixed.reshape(-1), d.reshape(-1)))
        d_kernel = self.x @ d.swapaxes(1, 2)
        for name, own in zip(PACKED, np.split(d_kernel, 3, axis=2), strict=True):
            self.gradients[f"{name}_kernel"][...] = own
        if self.layer.use_bias:
            for name, own in zip(PACKED, np.split(d.sum(axis=-1), 3, axis=1), strict=True):
                self.gradients[f"{name}_bias"][...] = own
        return self._unpadded(self._packed("kernel") @ d) if wants_dx else None

    def _packed(self, name: str) -> Array:
        """Return the kernels, or the biases, of queries, keys and values one after another."""
        packed: Array = np.concatenate([self.tensors[f"{each}_{name}"] for each in PACKED], axis=-1)
        return packed

    def _given(self) -> tuple[Array, Array, Any, tuple[Array, Array]]:
        """Return the arguments that both passes have."""
        flat = self.qkv.reshape(-1), self.drops.reshape(-1)
        return *flat, self.options, self.before_and_after

    def _unpadded(self, y: Array) -> Array:
        """Return (R, C, T M) without the samples that were filled up, as (R, C, T, N)."""
        t, n = self.options[0][3:]
        return np.ascontiguousarray(y.reshape(*y.shape[:2], t, n)[..., : self.samples])
