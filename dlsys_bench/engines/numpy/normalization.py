"""Batch normalisation and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.rule import LayerRule, dots, rows
from dlsys_bench.engines.numpy.shards import ShardPass, run_whole
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import BatchNorm, Dropout


class BatchNormRule(LayerRule[BatchNorm]):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, by channel. Ioffe & Szegedy 2015."""

    exchanges = True
    samples: float

    def forward(self, x: Array, training: bool) -> Array:
        if training:
            return run_whole(self.forward_shard(x))
        self.training, self.offset = False, x.dtype.type(0)
        return self._normalised(x, self.tensors["moving_mean"], self.tensors["moving_variance"])

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        self.training = True
        flat = rows(x)
        mean = flat.mean(axis=-1)
        centred = self._centred(flat, mean)
        self.samples, whole, squares = pool_moments(
            (yield flat.shape[-1], mean, dots(centred, centred, x.shape[-1]))
        )
        variance = squares / self.samples
        if self.updates_state:
            self._move(whole, variance, self.samples)
        # What is centred on the mean of one shard is off the mean of all by as much.
        self.offset = mean - whole
        return self._normalised(x, None, variance)

    def _centred(self, flat: Array, mean: Array) -> Array:
        # The statistics of a batch are those of its own rows, the moving ones each replica's.
        self.centred = self.buffer("centred", (len(mean), *flat.shape[1:]), flat.dtype)
        np.subtract(flat, mean[..., None], out=self.centred)
        return self.centred

    def _normalised(self, x: Array, mean: Array | None, variance: Array) -> Array:
        flat, gamma = rows(x), self.tensors["gamma"]
        centred = self.centred if mean is None else self._centred(flat, mean)
        self.inverse = 1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))
        # One input may serve many replicas; from here on each has its own.
        y = self.buffer("y", (len(gamma), *flat.shape[1:]), x.dtype)
        scale = gamma * self.inverse
        np.multiply(centred, scale[..., None], out=y)
        y += (self.tensors["beta"] + self.offset * scale)[..., None]
        return y.reshape(-1, *x.shape[1:])

    def _move(self, mean: Array, variance: Array, samples: int) -> None:
        if self.layer.moving_variance == "unbiased":
            variance = variance * (samples / max(samples - 1, 1))
        for moving, now in (
            (self.tensors["moving_mean"], mean),
            (self.tensors["moving_variance"], variance),
        ):
            moving *= self.layer.moving_decay
            moving += (1.0 - self.layer.moving_decay) * now

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        return run_whole(self.backward_shard(dy, wants_dx))

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        flat = rows(dy)
        d_gamma, d_beta = self.gradients["gamma"], self.gradients["beta"]
        np.sum(flat, axis=-1, out=d_beta)
        np.multiply(
            dots(flat, self.centred, dy.shape[-1]) + self.offset * d_beta, self.inverse, out=d_gamma
        )
        told = yield d_gamma.copy(), d_beta.copy()
        if not wants_dx:
            return None
        scale = self.tensors["gamma"] * self.inverse
        dx = self.buffer("dx", flat.shape, dy.dtype)
        np.multiply(flat, scale[..., None], out=dx)
        if self.training:
            # What the mean and the variance pass on: they too move with x.
            d_gamma, d_beta = (sum(parts[1:], parts[0]) for parts in zip(*told, strict=True))
            through_variance = self.buffer("through_variance", flat.shape, dy.dtype)
            slope = scale * self.inverse * d_gamma / self.samples
            np.multiply(self.centred, slope[..., None], out=through_variance)
            dx -= through_variance
            dx -= (scale * d_beta / self.samples + self.offset * slope)[..., None]
        return dx.reshape(dy.shape)


def pool_moments(parts: Sequence[tuple[int, Array, Array]]) -> tuple[int, Array, Array]:
    """Count, mean and sum of squares about it, of several parts as one. Chan, Golub & LeVeque
    1979."""
    if len(parts) == 1:
        return parts[0]
    samples = sum(count for count, _, _ in parts)
    mean = sum((count / samples * own for count, own, _ in parts), np.zeros_like(parts[0][1]))
    squares = [own + count * (each - mean) ** 2 for count, each, own in parts]
    return samples, mean, sum(squares[1:], squares[0])


class DropoutRule(LayerRule[Dropout]):
    """y = x / (1 - drop_rate) where kept, 0 where dropped; x itself outside training.

    What is kept comes from `mask` (R, ..., N) of bool where one is set, otherwise from
    `generators`, one a replica.
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
            # Single precision decides in both: a drawn double costs twice as much, and no rate
            # asked for needs it.
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
