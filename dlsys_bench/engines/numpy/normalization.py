"""Batch normalisation and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.rule import Rule, rows
from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import BatchNorm, Dropout


class BatchNormRule(Rule[BatchNorm]):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, by channel. Ioffe & Szegedy 2015."""

    def forward(self, x: Array, training: bool) -> Array:
        self.training = training
        flat = rows(x)
        samples = flat.shape[-1]
        # The statistics of a batch are those of its own rows, the moving ones each replica's.
        replicas = len(flat) if training else len(self.tensors["gamma"])
        centred = self.centred = self.buffer("centred", (replicas, *flat.shape[1:]), x.dtype)
        if training:
            mean = flat.mean(axis=-1)
            np.subtract(flat, mean[..., None], out=centred)
            variance = np.vecdot(centred, centred) / samples
            self._move(mean, variance, samples)
        else:
            mean, variance = self.tensors["moving_mean"], self.tensors["moving_variance"]
            np.subtract(flat, mean[..., None], out=centred)
        self.inverse = 1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))
        # One input may serve many replicas; from here on each has its own.
        y = self.buffer("y", (len(self.tensors["gamma"]), *flat.shape[1:]), x.dtype)
        np.multiply(centred, (self.tensors["gamma"] * self.inverse)[..., None], out=y)
        y += self.tensors["beta"][..., None]
        return y.reshape(-1, *x.shape[1:])

    def _move(self, mean: Array, variance: Array, samples: int) -> None:
        if self.layer.moving_variance == "unbiased":
            variance = variance * (samples / max(samples - 1, 1))
        for moving, now in ((self.tensors["moving_mean"], mean), (self.tensors["moving_variance"], variance)):
            moving *= self.layer.moving_decay
            moving += (1.0 - self.layer.moving_decay) * now

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        flat = rows(dy)
        samples = flat.shape[-1]
        d_gamma, d_beta = self.gradients["gamma"], self.gradients["beta"]
        np.sum(flat, axis=-1, out=d_beta)
        np.multiply(np.vecdot(flat, self.centred), self.inverse, out=d_gamma)
        if not wants_dx:
            return None
        scale = self.tensors["gamma"] * self.inverse
        dx = self.buffer("dx", flat.shape, dy.dtype)
        np.multiply(flat, scale[..., None], out=dx)
        if self.training:
            # What the mean and the variance pass on: they too move with x.
            through_variance = self.buffer("through_variance", flat.shape, dy.dtype)
            np.multiply(self.centred, (scale * self.inverse * d_gamma / samples)[..., None], out=through_variance)
            dx -= through_variance
            dx -= (scale * d_beta / samples)[..., None]
        return dx.reshape(dy.shape)


class DropoutRule(Rule[Dropout]):
    """y = x / (1 - drop_rate) where kept, 0 where dropped; x itself outside training.

    What is kept comes from `mask` (R, ..., N) of bool where one is set, otherwise from `generators`, one a replica.
    """

    mask: NDArray[np.bool_] | None = None
    generators: Sequence[np.random.Generator] = ()

    def forward(self, x: Array, training: bool) -> Array:
        rate = self.layer.drop_rate
        self.kept: NDArray[Any] | None = None
        if not training or (self.mask is None and rate == 0.0):
            return x
        shape = (len(self.generators) if self.mask is None else len(self.mask), *x.shape[1:])
        kept = self.kept = self.buffer("kept", shape, x.dtype)
        if self.mask is not None:
            kept[...] = self.mask
        else:
            # Single precision decides in both: a drawn double costs twice as much, and no rate asked for needs it.
            drawn = self.buffer("drawn", shape, np.float32)
            for generator, own in zip(self.generators, drawn, strict=True):
                generator.random(out=own, dtype=np.float32)
            np.greater_equal(drawn, np.float32(rate), out=kept)
        kept *= kept.dtype.type(1.0 / (1.0 - rate))
        y = self.buffer("y", shape, x.dtype)
        np.multiply(x, kept, out=y)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        if self.kept is not None:
            dy *= self.kept
        return dy
