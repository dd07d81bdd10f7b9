"""The roundings of an oracle: none, or random relative errors in place of those of a dtype.

An oracle with noise is a stochastic arithmetic (Parker 1997; Vignes 1993): how far its result moves
shows how well conditioned a computation is, without an error analysis of each layer.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from dlsys_bench.spec.record import Record

R = TypeVar("R", bound=Record)

ONCE = 1 / 8
"""The relative error of a value that is rounded once, such as a constant, as a fraction of that of
an array, which stands for the sums and functions of which its values are the results."""


class Rounding:
    """No rounding: every value stays as it is."""

    def array(self, values: Any, *, axes: int = 0) -> Any:
        """Return rounded values. Those along the first `axes` axes have one relative error."""
        return values

    def spread(self, values: Any, like: Any) -> Any:
        """Return values that are used for every entry of an array (P, ...), rounded for each.

        The derivative in the imaginary part is rounded independently. A backward pass rounds terms
        that cancel, of which a derivative that is only taken of rounded values shows nothing.
        """
        return values

    def variance(self, values: Any, centred: Any, axes: tuple[int, ...]) -> Any:
        """Return the mean square of `centred`, which is `values` minus their mean.

        Its derivative is rounded relative to that of the mean square of `values`, which may be much
        larger: PyTorch computes the one from the other, with the variance of centred values.
        """
        return (centred**2).mean(axis=axes, keepdims=True)

    def constant(self, value: float) -> float:
        """Return a rounded constant, such as a learning rate."""
        return value

    def record(self, record: R) -> R:
        """Return a record whose numbers are rounded."""
        return record


EXACT = Rounding()


MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number, by which multiplication spreads the bits of a value (Knuth 1973)."""


class Noise(Rounding):
    """Multiplies every value by 1 plus a random error of about `size`, from half to one and a half
    of it, of either sign.

    Errors of different sizes show that values cancel, where errors of one size may cancel as well.
    Equal values of an array get equal errors, as they do from a rounding: a max pool of two equal
    values still selects the first.
    """

    def __init__(self, size: float, seed: tuple[int, ...]) -> None:
        self.size, self.generator = size, np.random.default_rng(seed)

    def array(self, values: Any, *, axes: int = 0) -> Any:
        alike = values[(slice(0, 1),) * axes]
        bits = np.array(alike.real, np.float64).view(np.uint64)
        key = self.generator.integers(2**63, dtype=np.uint64)
        mixed = (bits ^ (bits >> np.uint64(32)) ^ key) * MIX
        mixed = (mixed ^ (mixed >> np.uint64(29))) * MIX
        return values * (1 + self._errors((mixed >> np.uint64(11)) * 2.0**-53))

    def _errors(self, uniform: Any) -> Any:
        """Return errors from uniform numbers in [0, 1)."""
        centred = 2 * uniform - 1
        return self.size * (centred + np.copysign(0.5, centred))

    def _drawn(self, *shape: int) -> Any:
        return self._errors(self.generator.random(shape))

    def spread(self, values: Any, like: Any) -> Any:
        errors = 1 + self._drawn(2, 1, *like.shape[1:])
        if not np.iscomplexobj(values):
            return values * errors[0]
        return values.real * errors[0] + 1j * values.imag * errors[1]

    def variance(self, values: Any, centred: Any, axes: tuple[int, ...]) -> Any:
        found = super().variance(values, centred, axes)
        if not np.iscomplexobj(values):
            return found
        moment = 2 * np.abs(values.real * values.imag).mean(axis=axes, keepdims=True)
        return found + 1j * ONCE * self._drawn(1, *found.shape[1:]) * moment

    def constant(self, value: float) -> float:
        return value * (1 + ONCE * float(self._drawn()))

    def record(self, record: R) -> R:
        numbers = {
            f.name: self.constant(value)
            for f in fields(record)
            if isinstance(value := getattr(record, f.name), float)
        }
        return replace(record, **numbers)
