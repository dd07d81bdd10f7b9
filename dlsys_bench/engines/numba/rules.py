"""The layers whose work is passing over memory. What each computes is said where numpy does it."""

from __future__ import annotations

import math
from math import inf
from typing import Any

import numpy as np

from dlsys_bench.engines.numba import kernels
from dlsys_bench.engines.numpy import kit
from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.convolution import Conv2DRule
from dlsys_bench.engines.numpy.normalization import BatchNormRule, DropoutRule
from dlsys_bench.engines.numpy.pooling import AveragePoolRule
from dlsys_bench.engines.numpy.rule import Rule
from dlsys_bench.engines.numpy.shards import Together
from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import Activation, AveragePool, BatchNorm, Conv2D, Dropout, Layer, Pair, Shape


def _flat(x: Array) -> Array:
    """(R, C, ...) as (R C, M), in one piece."""
    return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], -1)


class FusedBatchNormRule(BatchNormRule):
    def forward_together(self, x: Array) -> Together[Array]:
        flat = _flat(x)
        found = np.empty((2, len(flat)), x.dtype)
        kernels.moments(flat, found)
        told = yield flat.shape[1], found
        self.samples = flat.shape[1]
        if len(told) > 1:
            counts, parts = (np.array(each, x.dtype) for each in zip(*told, strict=True))
            self.samples = sum(count for count, _ in told)
            kernels.pooled(parts, counts, found := np.empty_like(found))
        if self.leads:
            mean, variance = found.reshape(2, *x.shape[:2])
            self._move(mean, variance, int(self.samples))
        return self._through(flat, found, x.shape)

    def forward(self, x: Array, training: bool) -> Array:
        if training:
            return super().forward(x, training)
        # No sample moves what does not move.
        self.samples = inf
        moving = np.stack([self.tensors["moving_mean"], self.tensors["moving_variance"]])
        return self._through(_flat(x), moving.reshape(2, -1), x.shape)

    def _through(self, flat: Array, moments: Array, shape: Shape) -> Array:
        gamma, beta = self.tensors["gamma"], self.tensors["beta"]
        self.x, self.moments, self.inverse = flat, moments, np.empty(moments.shape[1], flat.dtype)
        y = self.buffer("y", (gamma.size, flat.shape[1]), flat.dtype)
        kernels.normalised(flat, moments, gamma.ravel(), beta.ravel(), self.layer.epsilon, self.inverse, y)
        return y.reshape(len(gamma), *shape[1:])

    def backward_together(self, dy: Array, wants_dx: bool) -> Together[Array | None]:
        flat = _flat(dy)
        sums = np.empty((2, len(flat)), dy.dtype)
        kernels.normal_sums(flat, self.x, self.moments, self.inverse, sums)
        self.gradients["gamma"][...], self.gradients["beta"][...] = sums.reshape(2, *dy.shape[:2])
        told = yield sums
        if not wants_dx:
            return None
        total = np.sum(told, axis=0)
        gamma = self.tensors["gamma"].ravel()
        kernels.normal_dx(flat, self.x, self.moments, self.inverse, gamma, total, float(self.samples))
        return flat.reshape(dy.shape)


class FusedDropoutRule(DropoutRule):
    def forward(self, x: Array, training: bool) -> Array:
        rate = self.layer.drop_rate
        self.stays = None
        if not training or self.mask is not None or rate == 0.0:
            return super().forward(x, training)
        shape, x = (len(self.generators), *x.shape[1:]), np.ascontiguousarray(x)
        self.stays, y = self.buffer("stays", shape, np.bool_), self.buffer("y", shape, x.dtype)
        for replica, generator in enumerate(self.generators):
            key = generator.integers(2**64, dtype=np.uint64)
            kernels.drop(x[replica % len(x)].reshape(-1), key, min(round(rate * 2**32), 2**32 - 1), self._scale,
                         self.stays[replica].reshape(-1), y[replica].reshape(-1))  # fmt: skip
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if self.stays is None:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        kernels.drop_back(self.stays.reshape(-1), self._scale, dy.reshape(-1))
        return dy

    @property
    def _scale(self) -> float:
        return 1.0 / (1.0 - self.layer.drop_rate)


class FusedAveragePoolRule(AveragePoolRule):
    def forward(self, x: Array, training: bool) -> Array:
        ho, wo, _ = self.layer.output_shape(self.shape)
        y = self.empty("y", (ho, wo), x)
        kernels.average(_images(x), self.layer.pool_size, self.layer.steps, _images(y))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if not wants_dx:
            return None
        h, w, _ = self.shape
        dx = self.empty("dx", (h, w), dy)
        if self.layer.steps != self.layer.pool_size or h % self.layer.steps[0] or w % self.layer.steps[1]:
            dx.fill(0)
        kernels.average_back(_images(dy), self.layer.pool_size, self.layer.steps, _images(dx))
        return dx


def _images(x: Array) -> Array:
    """(R, C, H, W, N) as (R C, H, W, N), in one piece."""
    return np.ascontiguousarray(x).reshape(-1, *x.shape[2:])


# With no more weights than this, and five side by side as LeNet-5 has them, a kernel of our own is as fast as a matrix
# product on the fastest BLAS, and no windows need be gathered.
FEW_WEIGHTS = 4096


class FusedConv2DRule(Conv2DRule):
    def __init__(self, layer: Conv2D, *arguments: Any) -> None:
        super().__init__(layer, *arguments)
        shape = self.tensors["kernel"].shape[1:]
        self.few = (
            layer.strides == (1, 1) and shape[1] == 5 and shape[3] % 2 == 0 and math.prod(shape) <= FEW_WEIGHTS
        )  # fmt: skip

    def forward(self, x: Array, training: bool) -> Array:
        if not self.few:
            return super().forward(x, training)
        kernel = np.ascontiguousarray(self.tensors["kernel"])
        bias = self.tensors["bias"] if self.layer.use_bias else np.zeros((len(kernel), kernel.shape[-1]), x.dtype)
        self.x = np.ascontiguousarray(self._padded(x))
        ho, wo, filters = self.layer.output_shape(self.shape)
        y = self.buffer("y", (len(kernel), filters, ho, wo, x.shape[-1]), x.dtype)
        kernels.convolve(_lines(self.x), kernel, np.ascontiguousarray(bias), x.shape[-1], _lines(y))
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if not self.few:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        if self.layer.use_bias:
            self.gradients["bias"][...] = _sums(dy)
        d_kernel = np.empty_like(self.tensors["kernel"], order="C")
        kernels.d_weights(_lines(self.x), _lines(dy), dy.shape[-1], d_kernel)
        self.gradients["kernel"][...] = d_kernel
        if not wants_dx:
            return None
        kernel, n = np.ascontiguousarray(self.tensors["kernel"]), dy.shape[-1]
        dx = self.buffer("dx", (len(dy), *self.x.shape[1:]), dy.dtype)
        lines = self.buffer("lines", (dy.shape[1], (dy.shape[3] + 8) * n), dy.dtype)
        kernels.d_images(_lines(dy), kernel, n, lines, _lines(dx))
        return self._cropped(dx)

    def _copy(self, x: Array, gathered: Array) -> None:
        kernels.gather(_lines(np.ascontiguousarray(x)), x.shape[-1], self.layer.strides, _lines(gathered))

    def _add(self, d_places: Array, dx: Array, out: Pair) -> None:
        if dx.flags.c_contiguous:
            kernels.scatter(_lines(d_places), dx.shape[-1], self.layer.strides, _lines(dx))
        else:
            # A piece of a large batch.
            super()._add(d_places, dx, out)


def _sums(dy: Array) -> Array:
    """(R, C, ...) -> (R, C)."""
    sums = np.empty(dy.shape[0] * dy.shape[1], dy.dtype)
    kernels.row_sums(_flat(dy), sums)
    return sums.reshape(dy.shape[:2])


def _lines(x: Array) -> Array:
    """(..., W, N) as (..., W N), in one piece."""
    return x.reshape(*x.shape[:-2], -1)


BACKWARD = {
    "tanh": kernels.d_tanh,
    "sigmoid": kernels.d_sigmoid,
    "relu": kernels.d_leaky_relu,
    "leaky_relu": kernels.d_leaky_relu,
}


class FusedActivationRule(ActivationRule):
    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if not wants_dx or self.layer.function not in BACKWARD:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        slope = self.layer.negative_slope if self.layer.function == "leaky_relu" else 0.0
        BACKWARD[self.layer.function](self.y.reshape(-1), dy.reshape(-1), slope)
        return dy


RULES: dict[type[Layer], type[Rule[Any]]] = kit.RULES | {
    Conv2D: FusedConv2DRule,
    AveragePool: FusedAveragePoolRule,
    BatchNorm: FusedBatchNormRule,
    Dropout: FusedDropoutRule,
    Activation: FusedActivationRule,
}
