"""Dropout of single values and of whole channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Dropout, Layer, SpatialDropout

L = TypeVar("L", bound=Layer)
D = TypeVar("D", bound=Dropout)


class MaskedRule(LayerRule[L]):
    """The base of the rules with dropout.

    The mask is `mask` (R, ..., N) of bool if it is set, and otherwise drawn by `generators`, one
    per replica. Its axes are those of `Layer.mask` in this engine's order: the last one first, and
    the samples last.
    """

    mask: NDArray[np.bool_] | None = None
    generators: Sequence[np.random.Generator] = ()

    def scales(self, n: int, dtype: Any, training: bool) -> NDArray[Any] | None:
        """Return the factors (R, ..., n) of what is dropped and kept, 0 and 1 / (1 - drop_rate).

        None stands for a factor of one everywhere.
        """
        spec = self.layer.mask(*self.shapes)
        if spec is None:
            return None
        rate = spec.drop_rate
        if not training or (self.mask is None and rate == 0.0):
            return None
        replicas = len(self.generators) if self.mask is None else len(self.mask)
        shape = (replicas, *spec.shape[-1:], *spec.shape[:-1], n)
        kept = self.buffer("kept", shape, dtype)
        if self.mask is not None:
            kept[...] = self.mask
        else:
            # Numbers of single precision, in double precision too: drawing doubles takes twice as
            # long, and no realistic rate needs them.
            drawn = self.buffer("drawn", shape, np.float32)
            for generator, own in zip(self.generators, drawn, strict=True):
                generator.random(out=own, dtype=np.float32)
            np.greater_equal(drawn, np.float32(rate), out=kept)
        kept *= kept.dtype.type(1.0 / (1.0 - rate))
        return kept


class DropoutRule(MaskedRule[D]):
    """y = x / (1 - drop_rate) where kept, 0 where dropped; y = x outside training."""

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        self.kept = self.scales(x.shape[-1], x.dtype, training)
        if self.kept is None:
            return x
        y = self.buffer("y", (len(self.kept), *x.shape[1:]), x.dtype)
        np.multiply(x, self.kept, out=y)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if self.kept is not None:
            dy *= self.kept
        return dy


class SpatialDropoutRule(DropoutRule[SpatialDropout]):
    """A mask has one value for all positions of a channel, which is broadcast to them."""
