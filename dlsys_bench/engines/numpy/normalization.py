"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule, dots, rows
from dlsys_bench.engines.numpy.shards import ShardPass, run_whole
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import BatchNorm


class BatchNormRule(LayerRule[BatchNorm]):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, per channel. Ioffe & Szegedy 2015.

    In training, mean and variance are those of the whole batch. Each shard centres its samples on
    its own mean first, which is accurate whatever the size of the mean, and then exchanges its
    number of samples, mean and sum of squares. `offset` is how far its mean is from that of the
    batch: x - mean = centred + offset.
    """

    exchanges = True
    samples: float

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if training:
            return run_whole(self.forward_shard(x))
        self.training, self.offset = False, x.dtype.type(0)
        return self._normalised(x, self.tensors["moving_mean"], self.tensors["moving_variance"])

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """Compute y of one shard."""
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
        self.offset = mean - whole
        return self._normalised(x, None, variance)

    def _centred(self, flat: Array, mean: Array) -> Array:
        # (1 or R, C, M): replicas that share a batch share its statistics in training; the moving
        # statistics are those of each replica.
        self.centred = self.buffer("centred", (len(mean), *flat.shape[1:]), flat.dtype)
        np.subtract(flat, mean[..., None], out=self.centred)
        return self.centred

    def _normalised(self, x: Array, mean: Array | None, variance: Array) -> Array:
        """Compute y from x and the variance. With no mean, x is centred already."""
        flat, gamma = rows(x), self.tensors["gamma"]
        centred = self.centred if mean is None else self._centred(flat, mean)
        self.inverse = 1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))
        # x may be shared by all replicas, (1, ...); y is (R, ...), since gamma and beta differ.
        y = self.buffer("y", (len(gamma), *flat.shape[1:]), x.dtype)
        scale = gamma * self.inverse
        np.multiply(centred, scale[..., None], out=y)
        y += (self.tensors["beta"] + self.offset * scale)[..., None]
        return y.reshape(-1, *x.shape[1:])

    def _move(self, mean: Array, variance: Array, samples: int) -> None:
        """Move the moving statistics towards those of a batch."""
        if self.layer.moving_variance == "unbiased":
            variance = variance * (samples / max(samples - 1, 1))
        for moving, now in (
            (self.tensors["moving_mean"], mean),
            (self.tensors["moving_variance"], variance),
        ):
            moving *= self.layer.moving_decay
            moving += (1.0 - self.layer.moving_decay) * now

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        return run_whole(self.backward_shard(dy, wants_dx))

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        """The backward pass of batch norm. With xhat = (x - mean) inverse, where inverse is
        1 / sqrt(variance + epsilon), and sums over all m values of the channel in the batch::

            d_beta  = sum(dy)
            d_gamma = sum(dy xhat)
            dx      = gamma inverse (dy - d_beta / m - xhat d_gamma / m)

        The last two terms are the gradients through the mean and through the variance, which depend
        on x as well. They are missing outside training, where the statistics are constants.
        """
        flat = rows(dy)
        d_gamma, d_beta = self.gradients["gamma"], self.gradients["beta"]
        np.sum(flat, axis=-1, out=d_beta)
        np.multiply(
            dots(flat, self.centred, dy.shape[-1]) + self.offset * d_beta, self.inverse, out=d_gamma
        )
        parts = yield d_gamma.copy(), d_beta.copy()
        if not wants_dx:
            return None
        scale = self.tensors["gamma"] * self.inverse
        dx = self.buffer("dx", flat.shape, dy.dtype)
        np.multiply(flat, scale[..., None], out=dx)
        if self.training:
            # The sums of all shards; this shard's own stay in the gradients.
            d_gamma, d_beta = (sum(each[1:], each[0]) for each in zip(*parts, strict=True))
            through_variance = self.buffer("through_variance", flat.shape, dy.dtype)
            slope = scale * self.inverse * d_gamma / self.samples
            np.multiply(self.centred, slope[..., None], out=through_variance)
            dx -= through_variance
            dx -= (scale * d_beta / self.samples + self.offset * slope)[..., None]
        return dx.reshape(dy.shape)


def pool_moments(parts: Sequence[tuple[int, Array, Array]]) -> tuple[int, Array, Array]:
    """Combine the number of samples, the mean and the sum of squared deviations from it of several
    parts. Chan, Golub & LeVeque 1979."""
    if len(parts) == 1:
        return parts[0]
    samples = sum(count for count, _, _ in parts)
    mean = sum((count / samples * own for count, own, _ in parts), np.zeros_like(parts[0][1]))
    squares = [own + count * (each - mean) ** 2 for count, each, own in parts]
    return samples, mean, sum(squares[1:], squares[0])
