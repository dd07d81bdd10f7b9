"""Layer, RMS and group normalisation: of each sample by itself."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule, rows
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import GroupNorm, LayerNorm, RMSNorm, SampleNorm

S = TypeVar("S", bound=SampleNorm)


class SampleNormRule(LayerRule[S]):
    """y = gamma xhat + beta, with xhat = (x - mean) inverse and inverse = 1 / sqrt(variance +
    epsilon). Mean and variance are over one axis of a view of x."""

    axis = 1

    def view(self, x: Array) -> Array:
        """Return a view of x (R, C, ..., N) in which one axis has the values that are normalised
        together."""
        return rows(x)

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        values = self.view(x)
        self.xhat = self.buffer("xhat", values.shape, x.dtype)
        mean = values.mean(axis=self.axis, keepdims=True) if self.layer.centers else x.dtype.type(0)
        np.subtract(values, mean, out=self.xhat)
        variance = np.square(self.xhat).mean(axis=self.axis, keepdims=True)
        self.inverse = 1.0 / np.sqrt(variance + x.dtype.type(self.layer.epsilon))
        self.xhat *= self.inverse
        gamma, normal = self.tensors["gamma"], self.xhat.reshape(rows(x).shape)
        y = self.buffer("y", (len(gamma), *normal.shape[1:]), x.dtype)
        np.multiply(normal, gamma[..., None], out=y)
        if self.layer.centers:
            y += self.tensors["beta"][..., None]
        return y.reshape(-1, *x.shape[1:])

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted.

        With d = gamma dy, and means over the values that are normalised together::

            dx = inverse (d - mean(d) - xhat mean(d xhat))

        The second term is the gradient through the mean, and missing where none is subtracted; the
        third is that through the variance.
        """
        flat = rows(dy)
        np.multiply(flat, self.xhat.reshape(-1, *flat.shape[1:])).sum(
            axis=-1, out=self.gradients["gamma"]
        )
        if self.layer.centers:
            np.sum(flat, axis=-1, out=self.gradients["beta"])
        if not wants_dx:
            return None
        d = self.view((flat * self.tensors["gamma"][..., None]).reshape(dy.shape))
        dx = self.buffer("dx", d.shape, dy.dtype)
        np.multiply(self.xhat, (d * self.xhat).mean(axis=self.axis, keepdims=True), out=dx)
        if self.layer.centers:
            dx += d.mean(axis=self.axis, keepdims=True)
        np.subtract(d, dx, out=dx)
        dx *= self.inverse
        return dx.reshape(dy.shape)


class LayerNormRule(SampleNormRule[LayerNorm]):
    """Over the channels."""


class RMSNormRule(SampleNormRule[RMSNorm]):
    """Over the channels, without the mean."""


class GroupNormRule(SampleNormRule[GroupNorm]):
    """Over the positions and the channels of a group."""

    axis = 2

    def view(self, x: Array) -> Array:
        """Return x as (R, groups, values of a group, N)."""
        return x.reshape(len(x), self.layer.groups, -1, x.shape[-1])
