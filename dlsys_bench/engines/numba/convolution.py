"""Convolution: directly if a filter has few weights, and else by windows that are gathered and
scattered in long runs. The numpy engine documents the computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlsys_bench.engines.numba.direct_convolution import Axis, DirectConvolution
from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.vectors import padded
from dlsys_bench.engines.numpy.convolution import ConvolutionRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Conv2D, Convolution, IntPair


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
def convolve(x: Array, weights: Array, bias: Array, n: int, y: Array) -> None:
    """Compute y (R, F, H', W' N) from padded images (R, C, H, W N) and weights (R, h, 5, C, F), F
    even, at a stride of one.

    The inner loop applies a row of five weights of two filters at a time: ten products for every
    eight numbers that are read or written. The unrolled variables are what keeps them in registers.
    """
    for r in range(y.shape[0]):
        for i in range(y.shape[2]):
            for f in range(0, y.shape[1] - 1, 2):
                one, two = y[r, f, i], y[r, f + 1, i]
                for k in range(one.size):
                    one[k] = bias[r, f]
                    two[k] = bias[r, f + 1]
                for c in range(x.shape[1]):
                    for a in range(weights.shape[1]):
                        line = x[r % x.shape[0], c, i + a]
                        x0, x1, x2, x3, x4 = (
                            line,
                            line[n:],
                            line[2 * n :],
                            line[3 * n :],
                            line[4 * n :],
                        )
                        v, w = weights[r, a, :, c, f], weights[r, a, :, c, f + 1]
                        v0, v1, v2, v3, v4 = v[0], v[1], v[2], v[3], v[4]
                        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
                        for k in range(one.size):
                            one[k] += v0 * x0[k] + v1 * x1[k] + v2 * x2[k] + v3 * x3[k] + v4 * x4[k]
                            two[k] += w0 * x0[k] + w1 * x1[k] + w2 * x2[k] + w3 * x3[k] + w4 * x4[k]


@kernel
def d_weights(x: Array, dy: Array, n: int, d: Array) -> None:
    """Compute the gradient (R, h, 5, C, F) in the weights of `convolve`."""
    zero = dy.dtype.type(0)
    d[:] = 0
    for r in range(dy.shape[0]):
        for i in range(dy.shape[2]):
            for c in range(x.shape[1]):
                for a in range(d.shape[1]):
                    line = x[r % x.shape[0], c, i + a]
                    x0, x1, x2, x3, x4 = line, line[n:], line[2 * n :], line[3 * n :], line[4 * n :]
                    for f in range(0, dy.shape[1] - 1, 2):
                        one, two = dy[r, f, i], dy[r, f + 1, i]
                        v0, v1, v2, v3, v4 = zero, zero, zero, zero, zero
                        w0, w1, w2, w3, w4 = zero, zero, zero, zero, zero
                        for k in range(one.size):
                            v0 += one[k] * x0[k]
                            v1 += one[k] * x1[k]
                            v2 += one[k] * x2[k]
                            v3 += one[k] * x3[k]
                            v4 += one[k] * x4[k]
                            w0 += two[k] * x0[k]
                            w1 += two[k] * x1[k]
                            w2 += two[k] * x2[k]
                            w3 += two[k] * x3[k]
                            w4 += two[k] * x4[k]
                        v, w = d[r, a, :, c, f], d[r, a, :, c, f + 1]
                        v[0], v[1], v[2], v[3], v[4] = (
                            v[0] + v0,
                            v[1] + v1,
                            v[2] + v2,
                            v[3] + v3,
                            v[4] + v4,
                        )
                        w[0], w[1], w[2], w[3], w[4] = (
                            w[0] + w0,
                            w[1] + w1,
                            w[2] + w2,
                            w[3] + w3,
                            w[4] + w4,
                        )


@kernel
def d_images(dy: Array, weights: Array, n: int, lines: Array, dx: Array) -> None:
    """Compute the gradient dx (R, C, H, W N) in the padded images of `convolve`. `lines`
    (F, W' N + 8 n) is memory for rows of dy, padded by four columns of zeros at both ends."""
    wide = dy.shape[3]
    lines[:] = 0
    dx[:] = 0
    for r in range(dy.shape[0]):
        for i in range(dy.shape[2]):
            for f in range(dy.shape[1]):
                target, source = lines[f, 4 * n :], dy[r, f, i]
                for k in range(wide):
                    target[k] = source[k]
            for c in range(dx.shape[1]):
                for a in range(weights.shape[1]):
                    row = dx[r, c, i + a]
                    for f in range(0, dy.shape[1] - 1, 2):
                        y, z = lines[f], lines[f + 1]
                        y0, y1, y2, y3, y4 = y, y[n:], y[2 * n :], y[3 * n :], y[4 * n :]
                        z0, z1, z2, z3, z4 = z, z[n:], z[2 * n :], z[3 * n :], z[4 * n :]
                        v, w = weights[r, a, :, c, f], weights[r, a, :, c, f + 1]
                        v0, v1, v2, v3, v4 = v[4], v[3], v[2], v[1], v[0]
                        w0, w1, w2, w3, w4 = w[4], w[3], w[2], w[1], w[0]
                        for k in range(row.size):
                            row[k] += (
                                v0 * y0[k]
                                + v1 * y1[k]
                                + v2 * y2[k]
                                + v3 * y3[k]
                                + v4 * y4[k]
                                + w0 * z0[k]
                                + w1 * z1[k]
                                + w2 * z2[k]
                                + w3 * z3[k]
                                + w4 * z4[k]
                            )


@kernel
def row_sums(x: Array, sums: Array) -> None:
    """Compute the sum of each row of x (G, M)."""
    zero = x.dtype.type(0)
    for g in range(x.shape[0]):
        total = zero
        for m in range(x.shape[1]):
            total += x[g, m]
        sums[g] = total


# With no more weights than this, and five in a row as in LeNet-5, `convolve` is as fast as a matrix
# product of the fastest BLAS, and no windows have to be gathered.
FEW_WEIGHTS = 4096

# A product of matrices is faster for the convolutions of groups with more weights at a place.
FEW_PRODUCTS = 1024


class FusedConvolutionRule(ConvolutionRule):
    """Convolution in compiled passes."""

    def __init__(self, layer: Convolution, *arguments: Any) -> None:
        super().__init__(layer, *arguments)
        shape = self.tensors["kernel"].shape[1:]
        self.few = (
            isinstance(layer, Conv2D)
            and layer.strides == layer.dilation == (1, 1)
            and layer.groups == 1
            and shape[1] == 5
            and shape[3] % 2 == 0
            and math.prod(shape) <= FEW_WEIGHTS
        )
        self.pointwise = self.window == self.strides == (1, 1)
        channels, filters = shape[-2], shape[-1] // self.groups
        few_products = channels * filters <= FEW_PRODUCTS
        self.direct = few_products and not self.few and not self.pointwise
        sizes = self.size, self.out, self.window, self.strides, self.dilation
        before = tuple(pads[0] for pads in self.pads)
        self.axes = tuple(Axis(*each) for each in zip(*sizes, before, strict=True))
        self.convolution = DirectConvolution(*self.axes, self.groups, (channels, filters))

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if self.direct:
            return self._forward(x)
        if not self.few:
            return super().forward(x, training)
        kernel = np.ascontiguousarray(self.tensors["kernel"])
        bias = (
            self.tensors["bias"]
            if self.layer.use_bias
            else np.zeros((len(kernel), kernel.shape[-1]), x.dtype)
        )
        self.x = np.ascontiguousarray(self._padded(x))
        y = self.buffer("y", (len(kernel), self.layer.filters, *self.out, x.shape[-1]), x.dtype)
        convolve(_lines(self.x), kernel, np.ascontiguousarray(bias), x.shape[-1], _lines(y))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if self.direct:
            return self._backward(dy, wants_dx)
        if not self.few:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        if self.layer.use_bias:
            self.gradients["bias"][...] = _bias_gradient(dy)
        d_kernel = np.empty_like(self.tensors["kernel"], order="C")
        d_weights(_lines(self.x), _lines(dy), dy.shape[-1], d_kernel)
        self.gradients["kernel"][...] = d_kernel
        if not wants_dx:
            return None
        kernel, n = np.ascontiguousarray(self.tensors["kernel"]), dy.shape[-1]
        dx = self.buffer("dx", (len(dy), *self.x.shape[1:]), dy.dtype)
        lines = self.buffer("lines", (dy.shape[1], (dy.shape[3] + 8) * n), dy.dtype)
        d_images(_lines(dy), kernel, n, lines, _lines(dx))
        return self._cropped(dx)

    def _forward(self, x: Array) -> Array:
        """Compute y from x, directly."""
        n, kernel = x.shape[-1], np.ascontiguousarray(self.tensors["kernel"])
        images = padded(self, "images", x.reshape(*x.shape[:2], *self.size, n))
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
        """Fill the gradients, and return dx if it is wanted, directly."""
        if self.layer.use_bias:
            self.gradients["bias"][...] = _bias_gradient(dy)
        (above, below), (left, right) = (axis.margins for axis in self.axes)
        (height, width), n, r = self.out, dy.shape[-1], len(dy)
        sizes = above + height + below, left + width + right, self.x.shape[-1]
        whole = self.buffer("d_y", (r, self.layer.filters, *sizes), dy.dtype)
        whole.fill(0)
        whole[:, :, above : above + height, left : left + width, :n] = dy.reshape(
            r, -1, *self.out, n
        )
        d_kernel = self.buffer("d_kernel", self.tensors["kernel"].shape, dy.dtype)
        self.convolution.d_kernel(self.x, whole, d_kernel)
        self.gradients["kernel"][...] = d_kernel
        if not wants_dx:
            return None
        dx = self.buffer("dx", (r, self.channels, *self.size, sizes[2]), dy.dtype)
        self.convolution.backward(whole, np.ascontiguousarray(self.tensors["kernel"]), dx)
        return _samples(dx, n).reshape(r, self.channels, *self.shape[:-1], n)

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
