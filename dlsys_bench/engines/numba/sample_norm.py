"""Layer, RMS and group normalisation in three passes forward and two backward. The numpy engine
documents the computation."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy.sample_norm import GroupNormRule, SampleNormRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import GroupNorm, SampleNorm

S = TypeVar("S", bound=SampleNorm)

COLUMNS = 2048
"""The most columns that are computed at a time, whose sums stay in the cache."""


@kernel
def normalise(
    x: Array,
    affine: tuple[Array, Array],
    epsilon: float,
    centers: bool,
    statistics: Array,
    y: Array,
) -> None:
    """Normalise the columns of x (A, K, M), each by itself, as y.

    Gamma and beta (R C) each have one value for as many consecutive rows as they are fewer than the
    rows. The statistics (2, A, M) are the mean and 1 / sqrt(variance + epsilon).
    """
    (gamma, beta), (a_, k_, m_) = affine, x.shape
    repeated = a_ * k_ // gamma.size
    one, share, plus = x.dtype.type(1), x.dtype.type(1.0 / k_), x.dtype.type(epsilon)
    for a in range(a_):
        for first in range(0, m_, COLUMNS):
            end = min(first + COLUMNS, m_)
            mean, inverse = statistics[0, a, first:end], statistics[1, a, first:end]
            mean[:] = 0
            inverse[:] = 0
            if centers:
                for k in range(k_):
                    row = x[a, k, first:end]
                    for m in range(mean.size):
                        mean[m] += row[m] * share
            for k in range(k_):
                row = x[a, k, first:end]
                for m in range(mean.size):
                    off = row[m] - mean[m]
                    inverse[m] += off * off
            for m in range(mean.size):
                inverse[m] = one / np.sqrt(inverse[m] * share + plus)
            for k in range(k_):
                row, out, c = x[a, k, first:end], y[a, k, first:end], (a * k_ + k) // repeated
                times, shift = gamma[c], beta[c]
                for m in range(mean.size):
                    out[m] = (row[m] - mean[m]) * inverse[m] * times + shift


@kernel
def d_normalise(
    dy: Array, x: Array, gamma: Array, centers: bool, statistics: Array, gradients: Array
) -> None:
    """Overwrite dy with dx, and compute the gradients (2, R C) of gamma and beta."""
    a_, k_, m_ = x.shape
    repeated = a_ * k_ // gamma.size
    zero, share = x.dtype.type(0), x.dtype.type(1.0 / k_)
    less = share if centers else zero
    gradients[:] = 0
    memory = np.empty((2, min(COLUMNS, m_)), x.dtype)
    for a in range(a_):
        for first in range(0, m_, COLUMNS):
            end = min(first + COLUMNS, m_)
            mean, inverse = statistics[0, a, first:end], statistics[1, a, first:end]
            middle, slope = memory[0, : end - first], memory[1, : end - first]
            middle[:] = 0
            slope[:] = 0
            for k in range(k_):
                row, d, c = x[a, k, first:end], dy[a, k, first:end], (a * k_ + k) // repeated
                times, along, every = gamma[c], zero, zero
                for m in range(mean.size):
                    normal = (row[m] - mean[m]) * inverse[m]
                    every += d[m]
                    along += d[m] * normal
                    middle[m] += times * d[m]
                    slope[m] += times * d[m] * normal
                gradients[0, c] += along
                gradients[1, c] += every
            for m in range(mean.size):
                middle[m] *= less
                slope[m] *= share
            for k in range(k_):
                row, d = x[a, k, first:end], dy[a, k, first:end]
                times = gamma[(a * k_ + k) // repeated]
                for m in range(mean.size):
                    normal = (row[m] - mean[m]) * inverse[m]
                    d[m] = inverse[m] * (times * d[m] - middle[m] - normal * slope[m])


class FusedSampleNormRule(SampleNormRule[S]):
    """A norm in compiled passes, of samples that replicas do not share."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        gamma = self.tensors["gamma"]
        self.fused = len(x) == len(gamma)
        if not self.fused:
            return super().forward(x, training)
        self.x = self._columns(x)
        beta = self.tensors["beta"] if self.layer.centers else np.zeros_like(gamma)
        y = self.buffer("y", self.x.shape, x.dtype)
        self.statistics = self.buffer("statistics", (2, *self.x.shape[::2]), x.dtype)
        affine = gamma.reshape(-1), beta.reshape(-1)
        normalise(self.x, affine, self.layer.epsilon, self.layer.centers, self.statistics, y)
        return y.reshape(x.shape)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if not self.fused:
            return super().backward(dy, wants_dx)
        gamma = self.tensors["gamma"]
        flat, found = self._columns(dy), np.empty((2, gamma.size), dy.dtype)
        centers = self.layer.centers
        d_normalise(flat, self.x, gamma.reshape(-1), centers, self.statistics, found)
        self.gradients["gamma"][...] = found[0].reshape(gamma.shape)
        if centers:
            self.gradients["beta"][...] = found[1].reshape(gamma.shape)
        return flat.reshape(dy.shape) if wants_dx else None

    def _columns(self, x: Array) -> Array:
        """Return x as (A, K, M), of which the K values of a column are normalised together."""
        found: Any = self.view(np.ascontiguousarray(x))
        columns: Array = found.reshape(-1, *found.shape[-2:])
        return columns


class FusedGroupNormRule(FusedSampleNormRule[GroupNorm], GroupNormRule):
    """Over the positions and the channels of a group."""
