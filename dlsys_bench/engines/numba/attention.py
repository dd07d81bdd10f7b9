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
from dlsys_bench.spec.layers import Shape

POSITIONS = 64
"""The most positions of `attend`, if the samples fill whole vectors. With more, the batched matrix
products of numpy are faster."""

PROJECTIONS = ("query", "key", "value")
"""The names of the projections of the inputs, the first of x and the others of the context."""

Offsets = tuple[int, int, int]
"""Where the queries, the keys and the values begin in flat memory, or how far apart they are."""


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

    `qkv` has the queries (R, heads size, T, N), keys and values (R, heads size, S, N), and `kept`
    (R, keys, heads, queries, N) the factors of dropout; it is empty without. The weights are two
    arrays (R, heads, T, S, N), before and after dropout. The options are the shape (R, heads, size,
    T, S, N), where the queries, keys and values of the first replica begin, how far those of the
    next are, the factor of the scores, and whether later positions are left out of all loops.
    """
    (shape, starts, by_replica, scale, causal), (before, after) = options, weights
    r_, heads, size, t_, s_, n_ = shape
    row, line = t_ * n_, s_ * n_
    for one in range(r_ * heads):
        r, h = one // heads, one % heads
        for n in range(0, n_, LANES):
            query, key, value = _head(starts, by_replica, r, h * size, (row, line), n)
            for i in range(t_):
                count, own = i + 1 if causal else s_, (one * t_ + i) * line + n
                at, by = (query + i * n_, key, own), (row, line, n_, n_)
                add_products(qkv, qkv, before, at, by, (size, count))
                softmax(before, own, n_, count, scale)
                if kept.size:
                    at = own, ((r * s_ * heads + h) * t_ + i) * n_ + n, own
                    multiply_rows(before, kept, after, at, (n_, heads * row, n_), count)
                at = own, value, (one * size * t_ + i) * n_ + n
                add_products(after, qkv, mixed, at, (n_, n_, line, row), (count, size))


@inner_kernel
def _head(
    starts: Offsets, by_replica: Offsets, r: int, first: int, lines: tuple[int, int], n: int
) -> Offsets:
    """Return where the queries, keys and values of a head begin, of which it has the channels from
    the `first` on. Those of a channel are the `lines` of queries and of keys, from the sample n on.
    """
    query = starts[0] + r * by_replica[0] + first * lines[0] + n
    key = starts[1] + r * by_replica[1] + first * lines[1] + n
    return query, key, starts[2] + r * by_replica[2] + first * lines[1] + n


@kernel
def attend_back(
    qkv: Array, kept: Array, options: Any, weights: tuple[Array, Array], gradients: Any
) -> None:
    """Compute the gradient in `qkv` from that in `mixed`: the second of the gradients from the
    first. See `attend`."""
    (shape, starts, by_replica, scale, causal), (before, after) = options, weights
    r_, heads, size, t_, s_, n_ = shape
    (d_mixed, d_qkv), row, line = gradients, t_ * n_, s_ * n_
    scores = np.empty(t_ * s_ * LANES, qkv.dtype)
    for one in range(r_ * heads):
        r, h = one // heads, one % heads
        for n in range(0, n_, LANES):
            query, key, value = _head(starts, by_replica, r, h * size, (row, line), n)
            out = one * size * row + n
            for i in range(t_):
                count, own = i + 1 if causal else s_, (one * t_ + i) * line + n
                here = i * s_ * LANES
                at = out + i * n_, value, here
                add_products(d_mixed, qkv, scores, at, (row, line, n_, LANES), (size, count))
                if kept.size:
                    at = here, ((r * s_ * heads + h) * t_ + i) * n_ + n, here
                    multiply_rows(scores, kept, scores, at, (LANES, heads * row, LANES), count)
                total = fill(scores.dtype.type(0))
                for j in range(count):
                    place = here + j * LANES
                    total = total + load(scores, place) * load(before, own + j * n_)
                for j in range(count):
                    place = here + j * LANES
                    off = (load(scores, place) - total) * scale
                    store(scores, place, off * load(before, own + j * n_))
                at = here, key, query + i * n_
                add_products(scores, qkv, d_qkv, at, (LANES, n_, line, row), (count, size))
            for j in range(s_):
                first = j if causal else 0
                counts = t_ - first, size
                at = (first * s_ + j) * LANES, query + first * n_, key + j * n_
                add_products(scores, qkv, d_qkv, at, (s_ * LANES, n_, row, line), counts)
                at = (one * t_ + first) * line + j * n_ + n, out + first * n_, value + j * n_
                add_products(after, d_mixed, d_qkv, at, (line, n_, row, line), counts)


class FusedAttentionRule(AttentionRule):
    """Attention in compiled passes, if the positions are few."""

    def forward(self, x: Any, training: bool) -> Array:
        """Compute y (R, C, T, N) from x, or from x and the context (R, D, S, N)."""
        given = x if self.layer.context else [x]
        n, dtype = given[0].shape[-1], given[0].dtype
        self.fused = max(one.shape[2] for one in given) * max(n, LANES) <= POSITIONS * n
        if not self.fused:
            return super().forward(x, training)
        self.samples, kept = n, self.scales(n, dtype, training)
        self.drops = (
            np.empty(0, dtype) if kept is None else padded(partial(self.buffer, "drops"), kept)
        )
        whole = [padded(partial(self.buffer, f"x_{k}"), one) for k, one in enumerate(given)]
        self.given = [rows(one) for one in whole]
        r, heads, size, t, s, n = self._place_projections(whole[0].shape[2:], whole[-1].shape[2])
        for one, names, y in zip(self.given, self._names, self._blocks(self.qkv), strict=True):
            np.matmul(self._packed(names, "kernel").swapaxes(1, 2), one, out=y)
            if self.layer.use_bias:
                y += self._packed(names, "bias")[..., None]
        before = self.buffer("weights", (r * heads * t * s * n,), dtype)
        after = self.buffer("used", before.shape, dtype) if self.drops.size else before
        self.before_and_after = before, after
        self.mixed = self.buffer("mixed", (r, heads * size, t * n), dtype)
        attend(*self._arguments(), self.mixed.reshape(-1))
        return self._unpadded(self._project("output", self.mixed))

    def backward(self, dy: Array, wants_dx: bool) -> Any:
        """Fill the gradients, and return dx if it is wanted, or those in x and in the context."""
        if not self.fused:
            return super().backward(dy, wants_dx)
        d_mixed = self._back(
            "output", self.mixed, rows(padded(partial(self.buffer, "dy"), dy)), wanted=True
        )
        d = self.buffer("d_qkv", self.qkv.shape, dy.dtype)
        attend_back(*self._arguments(), (d_mixed.reshape(-1), d.reshape(-1)))
        inputs = zip(self.given, self._names, self._blocks(d), strict=True)
        found = [self._back_packed(*one, wants_dx) for one in inputs]
        if not wants_dx:
            return None
        return found if self.layer.context else found[0]

    @property
    def _names(self) -> tuple[tuple[str, ...], ...]:
        """The projections of each input, whose kernels are multiplied at once."""
        return (PROJECTIONS[:1], PROJECTIONS[1:]) if self.layer.context else (PROJECTIONS,)

    def _place_projections(self, queries: Shape, s: int) -> Shape:
        """Reserve the memory of queries (T, N) and of S keys and values, and set the options of
        both passes. Returns their shape (R, heads, size, T, S, N)."""
        r, _, inner = self.tensors["query_kernel"].shape
        starts, steps, end = list[int](), list[int](), 0
        for one, names in zip(self.given, self._names, strict=True):
            length = inner * one.shape[-1]
            starts += [end + k * length for k in range(len(names))]
            steps += [length * len(names)] * len(names)
            end += r * length * len(names)
        self.qkv = self.buffer("qkv", (end,), self.given[0].dtype)
        size = inner // self.layer.heads
        scale = self.qkv.dtype.type(1 / math.sqrt(size))
        shape = r, self.layer.heads, size, queries[0], s, queries[1]
        self.options = shape, tuple(starts), tuple(steps), scale, self.layer.causal
        return shape

    def _blocks(self, flat: Array) -> list[Array]:
        """Return the projections of each input, or the gradients in them, (R, channels, M)."""
        r, _, inner = self.tensors["query_kernel"].shape
        found, end = list[Array](), 0
        for one, names in zip(self.given, self._names, strict=True):
            shape = r, len(names) * inner, one.shape[-1]
            begin, end = end, end + math.prod(shape)
            found.append(flat[begin:end].reshape(shape))
        return found

    def _packed(self, names: tuple[str, ...], kind: str) -> Array:
        """Return the kernels, or the biases, of some projections one after another."""
        packed: Array = np.concatenate([self.tensors[f"{name}_{kind}"] for name in names], axis=-1)
        return packed

    def _back_packed(self, x: Array, names: tuple[str, ...], d: Array, wanted: bool) -> Any:
        """Fill the gradients of some projections of x from d, and return that in x if wanted."""
        parts = {"kernel": x @ d.swapaxes(1, 2)}
        if self.layer.use_bias:
            parts["bias"] = d.sum(axis=-1)
        for kind, part in parts.items():
            for name, own in zip(names, np.split(part, len(names), axis=-1), strict=True):
                self.gradients[f"{name}_{kind}"][...] = own
        return self._unpadded(self._packed(names, "kernel") @ d) if wanted else None

    def _arguments(self) -> tuple[Array, Array, Any, tuple[Array, Array]]:
        """Return the arguments that both passes have."""
        return self.qkv, self.drops.reshape(-1), self.options, self.before_and_after

    def _unpadded(self, y: Array) -> Array:
        """Return (R, C, T M) without the samples that were filled up, as (R, C, T, N)."""
        found = y.reshape(*y.shape[:2], -1, self.options[0][-1])
        return np.ascontiguousarray(found[..., : self.samples])
