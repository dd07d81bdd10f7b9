"""Addition and concatenation, the rules of several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import Add, Concat


class AddRule(LayerRule[Add]):
    """y = the sum of the inputs."""

    def forward(self, x: Any, training: bool) -> Array:
        """Compute y from the inputs."""
        first, second, *others = x
        y = self.buffer("y", (max(map(len, x)), *first.shape[1:]), first.dtype)
        np.add(first, second, out=y)
        for other in others:
            y += other
        self.count = len(x)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Any:
        """Return dy for each input."""
        if not wants_dx:
            return None
        # Every input has an array of its own, since the rule below may overwrite it.
        copies = [self.buffer(f"dx_{n}", dy.shape, dy.dtype) for n in range(1, self.count)]
        for copy in copies:
            np.copyto(copy, dy)
        return [dy, *copies]


class ConcatRule(LayerRule[Concat]):
    """y = the inputs one after another along the channels, which are the second axis here."""

    def forward(self, x: Any, training: bool) -> Array:
        """Compute y from the inputs."""
        self.ends = list(accumulate(each.shape[1] for each in x))
        first = x[0]
        shape = max(map(len, x)), self.ends[-1], *first.shape[2:]
        y = self.buffer("y", shape, first.dtype)
        for each, part in zip(x, self._parts(y), strict=True):
            np.copyto(part, each)
        return y

    def backward(self, dy: Array, wants_dx: bool) -> Any:
        """Return the part of dy of each input."""
        if not wants_dx:
            return None
        found = []
        for number, part in enumerate(self._parts(dy)):
            dx = self.buffer(f"dx_{number}", part.shape, dy.dtype)
            np.copyto(dx, part)
            found.append(dx)
        return found

    def _parts(self, y: Array) -> Sequence[Array]:
        """Return a view of the part of each input."""
        return np.split(y, self.ends[:-1], axis=1)
