"""The initialisers: records that define the distribution of a tensor's initial values.

The plan and the engines draw the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from dlsys_bench.spec.record import Invalid, Record, require, require_number, require_switches


class Fans(NamedTuple):
    """The fan-in and the fan-out of a kernel.

    Those of a dense kernel are its shape (in, out); those of a convolution are its input and output
    channels, each times the size of the window.
    """

    fan_in: int
    fan_out: int


class Distribution(NamedTuple):
    """A probability distribution on the reals.

    `value` is the value of a constant, `low` and `high` are the bounds of a uniform distribution.
    `stddev` is the standard deviation of a normal one with mean 0; for a truncated normal
    distribution, which is cut off at two standard deviations, it is the value before truncation.
    """

    family: Literal["constant", "uniform", "normal", "truncated_normal"]
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    stddev: float = 0.0


@dataclass(frozen=True)
class Initializer(Record):
    """The base of the initialisers."""

    def distribution(self, fans: Fans) -> Distribution:
        """Return the distribution of a tensor of a layer whose kernel has these fans."""
        raise NotImplementedError


@dataclass(frozen=True)
class Zeros(Initializer):
    """Zero everywhere."""

    kind: ClassVar[str] = "zeros"

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("constant")


@dataclass(frozen=True)
class Ones(Initializer):
    """One everywhere."""

    kind: ClassVar[str] = "ones"

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("constant", value=1.0)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform on [low, high)."""

    kind: ClassVar[str] = "uniform"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"low": 0.1}, "low 0.1 is above high 0.05"),
        ({"low": math.nan}, "low is nan; expected a number in (-inf, inf)"),
        ({"high": math.inf}, "high is inf; expected a number in (-inf, inf)"),
        ({"high": "0.1"}, "high is '0.1'; expected a number"),
    )
    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value, bound = getattr(self, name), math.inf
            require_number(self.kind, name, value, -bound, bound, open_low=True, open_high=True)
        require(self.low <= self.high, f"uniform: low {self.low} is above high {self.high}")

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("uniform", low=self.low, high=self.high)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal with mean 0."""

    kind: ClassVar[str] = "normal"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"stddev": -1.0}, "stddev is -1.0"),
        ({"stddev": math.inf}, "stddev is inf"),
    )
    stddev: float = 0.05

    def __post_init__(self) -> None:
        require_number(self.kind, "stddev", self.stddev, 0.0, math.inf, open_high=True)

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("normal", stddev=self.stddev)


# The standard deviation of a standard normal distribution truncated at two standard deviations. The
# distribution is widened by it before it is truncated, so that the draw has the intended variance.
TRUNCATED_STDDEV = 0.87962566103423978


def _normal(variance: float, truncated: bool) -> Distribution:
    if truncated:
        return Distribution("truncated_normal", stddev=math.sqrt(variance) / TRUNCATED_STDDEV)
    return Distribution("normal", stddev=math.sqrt(variance))


_TRUNCATION: Mapping[str, Mapping[str, Any]] = {
    "keras": {"truncated": True},
    "torch": {"truncated": False},
}


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Uniform on [-a, a) with a = sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010."""

    kind: ClassVar[str] = "glorot_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = math.sqrt(6.0 / (fans.fan_in + fans.fan_out))
        return Distribution("uniform", low=-limit, high=limit)


@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Normal with variance 2 / (fan_in + fan_out). Glorot & Bengio 2010.

    Keras truncates it at two standard deviations; torch does not.
    """

    kind: ClassVar[str] = "glorot_normal"
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = _TRUNCATION
    truncated: bool = True

    def __post_init__(self) -> None:
        require_switches(self, "truncated")

    def distribution(self, fans: Fans) -> Distribution:
        return _normal(2.0 / (fans.fan_in + fans.fan_out), self.truncated)


@dataclass(frozen=True)
class HeUniform(Initializer):
    """Uniform on [-a, a) with a = sqrt(6 / fan_in). He et al. 2015."""

    kind: ClassVar[str] = "he_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = math.sqrt(6.0 / fans.fan_in)
        return Distribution("uniform", low=-limit, high=limit)


@dataclass(frozen=True)
class HeNormal(Initializer):
    """Normal with variance 2 / fan_in. He et al. 2015.

    Keras truncates it at two standard deviations; torch does not.
    """

    kind: ClassVar[str] = "he_normal"
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = _TRUNCATION
    truncated: bool = True

    def __post_init__(self) -> None:
        require_switches(self, "truncated")

    def distribution(self, fans: Fans) -> Distribution:
        return _normal(2.0 / fans.fan_in, self.truncated)


@dataclass(frozen=True)
class FanInUniform(Initializer):
    """Uniform on [-a, a) with a = 1 / sqrt(fan_in): torch's default for kernels and biases."""

    kind: ClassVar[str] = "fan_in_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = 1.0 / math.sqrt(fans.fan_in)
        return Distribution("uniform", low=-limit, high=limit)


INITIALIZERS: dict[str, type[Initializer]] = {
    record.kind: record
    for record in (
        *(Zeros, Ones, Uniform, Normal),
        *(GlorotUniform, GlorotNormal, HeUniform, HeNormal, FanInUniform),
    )
}
