"""Convolution: directly if a filter has few weights, and else by windows that are gathered and
scattered in long runs. The numpy engine documents the computation."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from dlsys_bench.engines.numba.direct_convolution import Axis, DirectConvolution
from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.vectors import padded
from dlsys_bench.engines.numpy.convolution import ConvolutionRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Convolution, IntPair


@kernel
def gather(x: Array, n: int, strides: IntPair, dilation: IntPair, windows: Array) -> None:
    """Copy the windows (R, h, w, C, H', W' N) of padded images (R, C, H, W N)."""
    r_, h_, w_, c_, ho, wide = windows.shape
    # At a stride of one, the values of neighbouring windows are contiguous: one long run instead of
    # many short ones.
    run = wide if strides[1] == 1 else n
    for r in range(r_):
        for a in range(h_):
            for b in range(w_):
                for c in range(c_):
                    for i in range(ho):
                        whole = windows[r, a, b, c, i]
                        row = x[r, c, i * strides[0] + a * dilation[0]]
                        line = row[b * dilation[1] * n :]
                        for piece in range(wide // run):
                            target, source = whole[piece * run :], line[piece * strides[1] * n :]
                            for k in range(run):
                                target[k] = source[k]


@kernel
def scatter(windows: Array, n: int, strides: IntPair, dilation: IntPair, dx: Array) -> None:
    """Add the gradients in windows (R, h, w, C, H', W' N) to padded images (R, C, H, W N)."""
    r_, h_, w_, c_, ho, wide = windows.shape
    run = wide if strides[1] == 1 else n
    for r in range(r_):
        for a in range(h_):
            for b in range(w_):
                for c in range(c_):
                    for i in range(ho):
                        whole = windows[r, a, b, c, i]
                        row = dx[r, c, i * strides[0] + a * dilation[0]]
                        line = row[b * dilation[1] * n :]
                        for piece in range(wide // run):
                            source, target = whole[piece * run :], line[piece * strides[1] * n :]
                            for k in range(run):
                                target[k] += source[k]


@kernel
def row_sums(x: Array, sums: Array) -> None:
    """Compute the sum of each row of x (G, M)."""
    zero = x.dtype.type(0)
    for g in range(x.shape[0]):
        total = zero
        for m in range(x.shape[1]):
            total += x[g, m]
        sums[g] = total


FEW_PRODUCTS = 2**14
"""The most weights of a group at one place of a window with which the direct convolution is faster
than a matrix product. With more, they do not stay in the cache."""


class FusedConvolutionRule(ConvolutionRule):
    """Convolution in compiled passes."""

    def __init__(self, layer: Convolution, *arguments: Any) -> None:
        super().__init__(layer, *arguments)
        self.framed: dict[str, Array] = {}
        own = self.channels // self.groups, layer.filters // self.groups
        self.pointwise = self.window == self.strides == (1, 1)
        self.direct = not self.pointwise and math.prod(own) <= FEW_PRODUCTS
        sizes = self.size, self.out, self.window, self.strides, self.dilation
        before = tuple(pads[0] for pads in self.pads)
        down, across = (Axis(*each) for each in zip(*sizes, before, strict=True))
        self.convolution = DirectConvolution(down, across, self.groups, own)

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        return self._forward(x) if self.direct else super().forward(x, training)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        return self._backward(dy, wants_dx) if self.direct else super().backward(dy, wants_dx)

    def _forward(self, x: Array) -> Array:
        n, kernel = x.shape[-1], np.ascontiguousarray(self.tensors["kernel"])
        images = padded(partial(self.buffer, "images"), x.reshape(*x.shape[:2], *self.size, n))
        self.x = self._padded(images)
        shape = len(kernel), self.layer.filters, *self.out, self.x.shape[-1]
        y = self.buffer("y", shape, x.dtype)
        bias = (
            np.ascontiguousarray(self.tensors["bias"])
            if self.layer.use_bias
            else np.zeros(shape[:2], x.dtype)
        )
        self.convolution.forward(self.x, kernel, bias, y)
        return _samples(y, n).reshape(*shape[:2], *self.places, n)

    def _backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if self.layer.use_bias:
            self.gradients["bias"][...] = _bias_gradient(dy)
        (above, below), (left, right) = self.convolution.margins
        n, r = dy.shape[-1], len(dy)
        images = padded(partial(self.buffer, "dy"), dy.reshape(r, -1, *self.out, n))
        whole = self._framed("d_y", images, ((above, below), (left, right)))
        d_kernel = self.buffer("d_kernel", self.tensors["kernel"].shape, dy.dtype)
        self.convolution.d_kernel(self.x, whole, d_kernel)
        self.gradients["kernel"][...] = d_kernel
        if not wants_dx:
            return None
        dx = self.buffer("dx", (r, self.channels, *self.size, whole.shape[-1]), dy.dtype)
        self.convolution.backward(whole, np.ascontiguousarray(self.tensors["kernel"]), dx)
        return _samples(dx, n).reshape(r, self.channels, *self.shape[:-1], n)

    def _padded(self, x: Array) -> Array:
        return self._framed("padded", x, self.pads)

    def _framed(self, name: str, x: Array, margins: tuple[IntPair, IntPair]) -> Array:
        """Return images (R, C, H, W, N) with margins of zeros, as the buffer of this name."""
        ((above, below), (left, right)), (r, c, h, w, n) = margins, x.shape
        if not (above or below or left or right):
            return x
        y = self.buffer(name, (r, c, above + h + below, left + w + right, n), x.dtype)
        # Only the first time that a buffer has this shape, its margins are not zero yet.
        if self.framed.get(name) is not y:
            y.fill(0)
            self.framed[name] = y
        y[:, :, above : above + h, left : left + w] = x
        return y

    def _gather(self, x: Array) -> Array:
        if not self.pointwise:
            return super()._gather(x)
        # A window is one value of each channel, where it is.
        channels = self.channels // self.groups
        return np.ascontiguousarray(x).reshape(len(x), self.groups, channels, -1)

    def _scatter(self, flat: Array, dx: Array) -> None:
        if not self.pointwise or not dx.flags.c_contiguous:
            super()._scatter(flat, dx)
            return
        weights = self._weights(self.tensors["kernel"])
        np.matmul(weights, flat, out=dx.reshape(*weights.shape[:3], -1))

    def _copy(self, x: Array, gathered: Array) -> None:
        sizes = x.shape[-1], self.strides, self.dilation
        gather(_lines(_merged(np.ascontiguousarray(x))), *sizes, _lines(_merged(gathered)))

    def _add(self, d_places: Array, dx: Array) -> None:
        if dx.flags.c_contiguous:
            sizes = dx.shape[-1], self.strides, self.dilation
            scatter(_lines(_merged(d_places)), *sizes, _lines(_merged(dx)))
        else:
            # dx is a view of a piece of a large batch.
            super()._add(d_places, dx)


def _samples(x: Array, n: int) -> Array:
    """Return (..., N) without the samples that were filled up."""
    return np.ascontiguousarray(x[..., :n])


def _merged(x: Array) -> Array:
    """Return (R, groups, ...) as (R groups, ...)."""
    return x.reshape(-1, *x.shape[2:])


def _bias_gradient(dy: Array) -> Array:
    """Sum dy (R, F, ...) per filter, (R, F)."""
    sums = np.empty(dy.shape[0] * dy.shape[1], dy.dtype)
    row_sums(np.ascontiguousarray(dy).reshape(sums.size, -1), sums)
    return sums.reshape(dy.shape[:2])


def _lines(x: Array) -> Array:
    """Return (..., W, N) as (..., W N)."""
    return x.reshape(*x.shape[:-2], -1)
