"""What the oracle expects of an engine, with tolerances that follow from the arithmetic.

The oracle is evaluated once exactly and, where an engine is not right to the last bits, a few more
times with random relative errors in every input, weight, intermediate result and update. The
largest deviation of these results from the exact one is the tolerance: it grows with the number of
steps and with the condition of the example, and no other constant enters. An engine that declares
a tolerance has constants of a lower precision, such as a learning rate; their errors grow with the
condition too, so the random errors are as large as those of that precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis.errors import UnsatisfiedAssumption

from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.oracle.rounding import Noise
from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import DivergedError

NOISE = {"float64": 2.0**-36, "float32": 2.0**-19, "float16": 2.0**-6}
"""The relative errors of an oracle that stands for an engine of each dtype.

In float32 and float16 they are about 32 units of roundoff, because a result of an engine is a sum
of many rounded terms, which the oracle rounds once. `reports/conformance/tolerances.md` shows how
close the differences of healthy engines come to the tolerances, and `mutants-float32.md` which
mistakes are found. In float64 nothing is gained from so small errors: no mistake makes a relative
difference of less than 1e-9, the precision of single constants.
"""

COPIES = 3
"""The number of evaluations with errors."""

EQUAL = 1 / 4
"""Differences up to this fraction of the noise are rounding errors whatever the example: 8 units of
roundoff of the largest value."""

SHARP = 64
"""A tolerance is sharp if it is at most this multiple of the noise. In float32 that is 2**-13 of
the largest value, which is less than the rounding error of a mantissa of 11 bits (float16, TF32).
"""

SHARP_TRAINING = 512
"""The same for the change of a tensor in a training, in which errors grow: 2**-10 of the change."""

Scales = Callable[[Mapping[str, Array]], Mapping[str, float]]
"""Returns, by name, the magnitudes to which differences of expected arrays are relative."""


class Expectation:
    """What `compute` returns for the oracle: arrays by name.

    `scales` holds, by name, the magnitude to which differences are relative (default: the largest
    absolute value of the array). `noise` is the size of the relative errors, `sharp` the multiple
    of it up to which a tolerance is sharp, and `declared` the relative tolerance that the engine
    declares.
    """

    def __init__(
        self,
        compute: Callable[[Oracle], Mapping[str, Any]],
        noise: float,
        scales: Scales | None = None,
        *,
        sharp: int = SHARP,
        declared: float = 0.0,
    ) -> None:
        self.compute, self.noise, self.declared = compute, noise, declared
        self.errors = max(noise, declared / SHARP)
        self.sharpest = sharp * self.errors
        self.values = _arrays(compute(Oracle()))
        self.scales = (scales or own_scales)(self.values)
        self.compared, self.sharp = 0, 0

    @cached_property
    def deviations(self) -> dict[str, float]:
        """The largest deviation of each array in the evaluations with errors."""
        found = dict.fromkeys(self.values, 0.0)
        for copy in range(COPIES):
            try:
                moved = _arrays(self.compute(Oracle(rounding=Noise(self.errors, (copy,)))))
            except DivergedError:
                return dict.fromkeys(self.values, math.inf)
            for name, values in self.values.items():
                with np.errstate(invalid="ignore", over="ignore"):
                    apart = np.abs(moved[name] - values)[np.isfinite(values)]
                largest = float(apart.max(initial=0.0))
                found[name] = max(found[name], math.inf if math.isnan(largest) else largest)
        return found

    def least(self, name: str) -> float:
        """Return the difference that is a rounding error whatever the example."""
        scale = self.scales[name]
        rounding = EQUAL * self.noise * max(scale, magnitude(self.values[name]))
        return max(rounding, self.declared * scale)

    def allowed(self, name: str) -> float:
        """Return the tolerance of an array."""
        return self.least(name) + self.deviations[name]

    def check(self, name: str, actual: Any, what: str, **where: Any) -> None:
        """Raise BrokenError unless an array agrees with the expected one within its tolerance."""
        expected = self.values[name]
        self.compared += 1
        close(what, actual, expected, math.inf, **where)
        allowed = self.least(name)
        if _difference(actual, expected) > allowed:
            allowed = self.allowed(name)
            close(what, actual, expected, allowed, **where)
        self.sharp += allowed <= self.sharpest * self.scales[name]

    def reject_unless_sharp(self) -> None:
        """Reject the example if its condition makes most comparisons worthless."""
        if 2 * self.sharp < self.compared:
            raise UnsatisfiedAssumption


def own_scales(values: Mapping[str, Array]) -> dict[str, float]:
    """Return the largest absolute value of each array."""
    return {name: magnitude(array) for name, array in values.items()}


def common_scale(values: Mapping[str, Array]) -> dict[str, float]:
    """Return the largest absolute value of all arrays, for each of them."""
    return dict.fromkeys(values, magnitude(*values.values()))


def magnitude(*arrays: Any) -> float:
    """Return the largest absolute value in some arrays, and at least 1e-12."""
    return max(1e-12, *(float(np.abs(array).max(initial=0.0)) for array in arrays))


def _arrays(values: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def _difference(actual: Any, expected: Array) -> float:
    """Return the largest difference of values that are finite in both."""
    apart = np.asarray(actual, np.float64) - expected
    return float(np.abs(apart[np.isfinite(apart)]).max(initial=0.0))
