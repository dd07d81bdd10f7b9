"""How a parameter starts. An initialiser names a law; the plan and the engines draw from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from dlsys_bench.spec.record import Record, require, require_number


class Fans(NamedTuple):
    """The inputs and outputs of one unit: (in, out) of a dense kernel, times the window of a
    convolution's."""

    fan_in: int
    fan_out: int


class Distribution(NamedTuple):
    """A distribution. `low` and `high` bound a uniform; `stddev` is of the plain or the untruncated
    normal."""

    family: Literal["constant", "uniform", "normal", "truncated_normal"]
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    stddev: float = 0.0


@dataclass(frozen=True)
class Initializer(Record):
    """The law of a parameter, given the fans of its layer's kernel."""

    def distribution(self, fans: Fans) -> Distribution:
        raise NotImplementedError


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zero."""

    kind: ClassVar[str] = "zeros"

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("constant")


@dataclass(frozen=True)
class Ones(Initializer):
    """All one."""

    kind: ClassVar[str] = "ones"

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("constant", value=1.0)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Uniform on [low, high)."""

    kind: ClassVar[str] = "uniform"
    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        require(self.low <= self.high, f"uniform: low {self.low} is above high {self.high}")

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("uniform", low=self.low, high=self.high)


@dataclass(frozen=True)
class Normal(Initializer):
    """Normal about zero."""

    kind: ClassVar[str] = "normal"
    stddev: float = 0.05

    def __post_init__(self) -> None:
        require_number("normal", "stddev", self.stddev, 0.0, math.inf)

    def distribution(self, fans: Fans) -> Distribution:
        return Distribution("normal", stddev=self.stddev)


# The standard deviation of a standard normal cut off at two: a truncated draw is widened by it.
TRUNCATED_STDDEV = 0.87962566103423978


def _normal(variance: float, truncated: bool) -> Distribution:
    if truncated:
        return Distribution("truncated_normal", stddev=math.sqrt(variance) / TRUNCATED_STDDEV)
    return Distribution("normal", stddev=math.sqrt(variance))


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Uniform within sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010."""

    kind: ClassVar[str] = "glorot_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = math.sqrt(6.0 / (fans.fan_in + fans.fan_out))
        return Distribution("uniform", low=-limit, high=limit)


@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """Normal of variance 2 / (fan_in + fan_out); Keras cuts it off at two deviations. Glorot &
    Bengio 2010."""

    kind: ClassVar[str] = "glorot_normal"
    truncated: bool = True

    def distribution(self, fans: Fans) -> Distribution:
        return _normal(2.0 / (fans.fan_in + fans.fan_out), self.truncated)


@dataclass(frozen=True)
class HeUniform(Initializer):
    """Uniform within sqrt(6 / fan_in). He et al. 2015."""

    kind: ClassVar[str] = "he_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = math.sqrt(6.0 / fans.fan_in)
        return Distribution("uniform", low=-limit, high=limit)


@dataclass(frozen=True)
class HeNormal(Initializer):
    """Normal of variance 2 / fan_in; Keras cuts it off at two deviations. He et al. 2015."""

    kind: ClassVar[str] = "he_normal"
    truncated: bool = True

    def distribution(self, fans: Fans) -> Distribution:
        return _normal(2.0 / fans.fan_in, self.truncated)


@dataclass(frozen=True)
class FanInUniform(Initializer):
    """Uniform within 1 / sqrt(fan_in), kernel and bias alike: torch's default."""

    kind: ClassVar[str] = "fan_in_uniform"

    def distribution(self, fans: Fans) -> Distribution:
        limit = 1.0 / math.sqrt(fans.fan_in)
        return Distribution("uniform", low=-limit, high=limit)


INITIALIZERS: dict[str, type[Initializer]] = {
    record.kind: record
    for record in (
        Zeros,
        Ones,
        Uniform,
        Normal,
        GlorotUniform,
        GlorotNormal,
        HeUniform,
        HeNormal,
        FanInUniform,
    )
}
