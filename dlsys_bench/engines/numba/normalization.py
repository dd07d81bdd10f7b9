"""Batch normalisation in three passes over memory per direction, and dropout in one. The numpy
engine documents the computation."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy.dropout import DropoutRule
from dlsys_bench.engines.numpy.normalization import BatchNormRule
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.shards import ShardPass
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Activation, BatchNorm, Dropout, Shape

Affine = tuple[Array, Array, float]
"""Gamma and beta, and the slope of a leaky relu after them, 1 for none."""


@kernel
def moments(x: Array, found: Array) -> None:
    """Compute the mean and the variance of each row of x (G, M), as `found` (2, G)."""
    zero, share = x.dtype.type(0), x.dtype.type(1.0 / x.shape[1])
    for g in range(x.shape[0]):
        total = zero
        for m in range(x.shape[1]):
            total += x[g, m]
        middle = total * share
        square = zero
        for m in range(x.shape[1]):
            off = x[g, m] - middle
            square += off * off
        found[0, g], found[1, g] = middle, square * share


@kernel
def pool_moments(parts: Array, counts: Array, found: Array) -> None:
    """Combine the moments (S, 2, G) of S shards, with `counts` samples each, as `found` (2, G).
    Chan, Golub & LeVeque 1979."""
    total = counts.sum()
    for g in range(found.shape[1]):
        mean, variance = found.dtype.type(0), found.dtype.type(0)
        for s in range(len(counts)):
            mean += counts[s] / total * parts[s, 0, g]
        for s in range(len(counts)):
            off = parts[s, 0, g] - mean
            variance += counts[s] / total * (parts[s, 1, g] + off * off)
        found[0, g], found[1, g] = mean, variance


@kernel
def normalised(
    x: Array, moments: Array, affine: Affine, epsilon: float, inverse: Array, y: Array
) -> None:
    """Compute a leaky relu of gamma (x - mean) inverse + beta, row by row, and the inverse of the
    standard deviation. X and its moments are by C or R C."""
    (gamma, beta, slope), rows = affine, x.shape[0]
    one, plus, below = x.dtype.type(1), x.dtype.type(epsilon), x.dtype.type(slope)
    for g in range(inverse.size):
        inverse[g] = one / np.sqrt(moments[1, g] + plus)
    for g in range(y.shape[0]):
        own = g % inverse.size
        middle, times, shift, row = moments[0, own], gamma[g] * inverse[own], beta[g], x[g % rows]
        for m in range(y.shape[1]):
            value = (row[m] - middle) * times + shift
            y[g, m] = value * below if value <= 0 else value


@kernel
def normal_sums(
    dy: Array, x: Array, moments: Array, inverse: Array, affine: Affine, sums: Array
) -> None:
    """Compute the gradients of gamma and beta, as `sums` (2, G): the sums of each row of dy times
    the normalised x, and of dy, where dy is that before the leaky relu."""
    (gamma, beta, slope), rows = affine, x.shape[0]
    zero, below = dy.dtype.type(0), dy.dtype.type(slope)
    for g in range(dy.shape[0]):
        own = g % inverse.size
        middle, times, shift, row = moments[0, own], gamma[g] * inverse[own], beta[g], x[g % rows]
        every, along = zero, zero
        for m in range(dy.shape[1]):
            off = row[m] - middle
            d = dy[g, m] * below if off * times + shift <= 0 else dy[g, m]
            every += d
            along += d * off
        sums[0, g], sums[1, g] = along * inverse[own], every


@kernel
def normal_dx(
    dy: Array,
    x: Array,
    moments: Array,
    inverse: Array,
    affine: Affine,
    sums: Array,
    samples: float,
) -> None:
    """Overwrite dy with dx, given the number of samples per channel; infinitely many mean that the
    statistics are constants."""
    (gamma, beta, slope), rows = affine, x.shape[0]
    share, below = dy.dtype.type(1.0 / samples), dy.dtype.type(slope)
    for g in range(dy.shape[0]):
        own = g % inverse.size
        middle, times, shift, row = moments[0, own], gamma[g] * inverse[own], beta[g], x[g % rows]
        along, less = times * inverse[own] * sums[0, g] * share, times * sums[1, g] * share
        for m in range(dy.shape[1]):
            off = row[m] - middle
            d = dy[g, m] * below if off * times + shift <= 0 else dy[g, m]
            dy[g, m] = times * d - along * off - less


@kernel
def _mixed(key: np.uint64, place: int) -> np.uint64:
    z = np.uint64(key) + np.uint64(place + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def draw_stays(key: np.uint64, least: int, stays: NDArray[np.bool_]) -> None:
    """Draw which values stay: those with a random number of 32 bits of at least `least`.

    The numbers are those of SplitMix64 (Steele, Lea & Flood 2014), two from each state. A state
    follows from its index alone, so the loop is compiled to vector instructions.
    """
    half, bound = stays.size // 2, np.uint32(least)
    first, last = stays[:half], stays[stays.size - half :]
    for i in range(half):
        z = _mixed(key, i)
        first[i] = np.uint32(z) >= bound
        last[i] = np.uint32(z >> np.uint64(32)) >= bound
    if stays.size > 2 * half:
        stays[half] = np.uint32(_mixed(key, half)) >= bound


@kernel
def drop(
    x: Array, key: np.uint64, least: int, scale: float, stays: NDArray[np.bool_], y: Array
) -> None:
    """Draw which x stay, and compute y = scale x there and 0 elsewhere."""
    zero, times = x.dtype.type(0), x.dtype.type(scale)
    draw_stays(key, least, stays)
    for i in range(x.size):
        y[i] = x[i] * (times if stays[i] else zero)


@kernel
def drop_back(stays: NDArray[np.bool_], scale: float, dy: Array) -> None:
    """Overwrite dy with scale dy where x stayed, and 0 elsewhere."""
    zero, times = dy.dtype.type(0), dy.dtype.type(scale)
    for i in range(dy.size):
        dy[i] *= times if stays[i] else zero


def flat_rows(x: Array) -> Array:
    """Return (R, C, ...) as contiguous rows (R C, M)."""
    return np.ascontiguousarray(x).reshape(x.shape[0] * x.shape[1], -1)


class FusedBatchNormRule(BatchNormRule):
    """Batch norm in compiled passes, with the leaky relu of this slope after it."""

    slope = 1.0

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """Compute y of one shard."""
        flat = flat_rows(x)
        return self.normalize(flat, (yield from self.shared_moments(flat, x.shape)), x.shape)

    def shared_moments(self, flat: Array, shape: Shape) -> ShardPass[Array]:
        """Compute the moments (2, G) of the rows of x, combined with those of the other shards, and
        move the moving statistics."""
        found = np.empty((2, len(flat)), flat.dtype)
        moments(flat, found)
        parts = yield flat.shape[1], found
        self.samples = flat.shape[1]
        if len(parts) > 1:
            counts, each = (np.array(one, flat.dtype) for one in zip(*parts, strict=True))
            self.samples = sum(count for count, _ in parts)
            pool_moments(each, counts, found := np.empty_like(found))
        if self.updates_state:
            mean, variance = found.reshape(2, *shape[:2])
            self._move(mean, variance, int(self.samples))
        return found

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if training:
            return super().forward(x, training)
        # The moving statistics do not depend on the samples.
        self.samples = inf
        moving = np.stack([self.tensors["moving_mean"], self.tensors["moving_variance"]])
        return self.normalize(flat_rows(x), moving.reshape(2, -1), x.shape)

    def normalize(self, flat: Array, moments: Array, shape: Shape) -> Array:
        """Normalise rows by these moments, and return them in the shape of x."""
        gamma = self.tensors["gamma"]
        self.x, self.moments, self.inverse = flat, moments, np.empty(moments.shape[1], flat.dtype)
        y = self.buffer("y", (gamma.size, flat.shape[1]), flat.dtype)
        normalised(flat, moments, self._affine, self.layer.epsilon, self.inverse, y)
        return y.reshape(len(gamma), *shape[1:])

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        """Fill the gradients with the part of one shard, and return its dx."""
        flat = flat_rows(dy)
        total = yield from self.shared_sums(flat, dy.shape)
        if not wants_dx:
            return None
        given = self.x, self.moments, self.inverse, self._affine
        normal_dx(flat, *given, total, float(self.samples))
        return flat.reshape(dy.shape)

    def shared_sums(self, flat: Array, shape: Shape) -> ShardPass[Array]:
        """Fill the gradients of gamma and beta from the rows of dy, and return their sums over all
        shards, (2, G)."""
        sums = np.empty((2, len(flat)), flat.dtype)
        normal_sums(flat, self.x, self.moments, self.inverse, self._affine, sums)
        self.gradients["gamma"][...], self.gradients["beta"][...] = sums.reshape(2, *shape[:2])
        total: Array = np.sum((yield sums), axis=0)
        return total

    @property
    def _affine(self) -> Affine:
        return self.tensors["gamma"].ravel(), self.tensors["beta"].ravel(), self.slope


class NormActivationRule(FusedBatchNormRule):
    """The rule of a batch norm and of the relu or leaky_relu after it."""

    def __init__(self, norm: LayerRule[BatchNorm], slope: float) -> None:
        super().__init__(norm.layer, norm.shapes, norm.tensors, norm.gradients)
        self.slope, self.updates_state = slope, norm.updates_state


def norm_activation(
    norm: LayerRule[BatchNorm], activation: LayerRule[Activation]
) -> NormActivationRule | None:
    """Combine the two rules, or return None if the activation is another one."""
    layer = activation.layer
    slopes = {"relu": 0.0, "leaky_relu": layer.negative_slope}
    return NormActivationRule(norm, slopes[layer.function]) if layer.function in slopes else None


def least_number(drop_rate: float) -> int:
    """Return the smallest of the numbers of 32 bits with which a value stays."""
    return min(round(drop_rate * 2**32), 2**32 - 1)


class FusedDropoutRule(DropoutRule[Dropout]):
    """Dropout that draws, masks and scales in one pass."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        rate = self.layer.drop_rate
        self.stays = None
        if not training or self.mask is not None or rate == 0.0:
            return super().forward(x, training)
        shape, x = (len(self.generators), *x.shape[1:]), np.ascontiguousarray(x)
        self.stays, y = self.buffer("stays", shape, np.bool_), self.buffer("y", shape, x.dtype)
        for replica, generator in enumerate(self.generators):
            key = generator.integers(2**64, dtype=np.uint64)
            drop(
                x[replica % len(x)].reshape(-1),
                key,
                least_number(rate),
                self._scale,
                self.stays[replica].reshape(-1),
                y[replica].reshape(-1),
            )
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if self.stays is None:
            return super().backward(dy, wants_dx)
        dy = np.ascontiguousarray(dy)
        drop_back(self.stays.reshape(-1), self._scale, dy.reshape(-1))
        return dy

    @property
    def _scale(self) -> float:
        return 1.0 / (1.0 - self.layer.drop_rate)
