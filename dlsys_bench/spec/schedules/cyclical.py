"""Schedules that go up and down in cycles, and the ramp that finds their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    require,
    require_choice,
    require_count,
    require_number,
)
from dlsys_bench.spec.schedules.base import Schedule

SCALES = ("triangular", "triangular2", "exp_range")


@dataclass(frozen=True)
class CyclicalLearningRate(Schedule):
    """Cycles from `base` to `maximum` and back, `step_size` steps each way.

    `scale` shrinks the amplitude: "triangular" keeps it, "triangular2" halves it with each cycle,
    "exp_range" multiplies it by gamma ** step. A subclass may override `scaled` to use another
    scale. If `base` is above `maximum`, each cycle starts high and dips.

    Smith 2015, arXiv:1506.01186.
    """

    base: float = 0.001
    maximum: float = 0.006
    step_size: int = 2000
    scale: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0

    kind: ClassVar[str] = "cyclical_learning_rate"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"step_size": 0}, "step_size is 0"),
        ({"base": -0.1}, "base is -0.1"),
        ({"scale": "square"}, "scale is 'square'"),
        ({"gamma": 1.5}, "gamma is 1.5"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "triangular": {"base": (0.01,), "maximum": (0.2,), "step_size": (3,)},
        "triangular2": {
            "base": (0.01,),
            "maximum": (0.2,),
            "step_size": (2,),
            "scale": ("triangular2",),
        },
        "exp_range": {
            "base": (0.2,),
            "maximum": (0.01,),
            "step_size": (3,),
            "scale": ("exp_range",),
            "gamma": (0.9,),
        },
    }

    def __post_init__(self) -> None:
        for name in ("base", "maximum"):
            require_number(self.kind, name, getattr(self, name), 0.0, math.inf, open_high=True)
        require_count(self.kind, "step_size", self.step_size)
        require_choice(self.kind, "scale", self.scale, SCALES)
        require_number(self.kind, "gamma", self.gamma, 0.0, 1.0)

    def scaled(self, cycle: int, step: int) -> float:
        """Return the relative amplitude of a step, in [0, 1]. Cycles count from 1."""
        if self.scale == "exp_range":
            return self.gamma**step
        return 0.5 ** (cycle - 1) if self.scale == "triangular2" else 1.0

    def rate(self, step: int) -> float:
        cycle = 1 + step // (2 * self.step_size)
        distance = abs(step / self.step_size - 2 * cycle + 1)
        return self.base + (self.maximum - self.base) * (1.0 - distance) * self.scaled(cycle, step)


@dataclass(frozen=True)
class LearningRateRamp(Schedule):
    """From `low` to `high` in `steps` steps, then constant: the learning-rate range test.

    The steps are spaced by an equal "factor" or an equal "difference". Smith 2015, section 3.3.
    """

    low: float = 1e-6
    high: float = 10.0
    steps: int = 100
    spacing: Literal["factor", "difference"] = "factor"

    kind: ClassVar[str] = "learning_rate_ramp"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"steps": 0}, "steps is 0"),
        ({"low": 0.0}, "a low and a high above 0"),
        ({"spacing": "even"}, "spacing is 'even'"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "ramp": {"low": (1e-3,), "high": (0.2,), "steps": (7,)}
    }

    def __post_init__(self) -> None:
        require_count(self.kind, "steps", self.steps)
        require_choice(self.kind, "spacing", self.spacing, ("factor", "difference"))
        for name in ("low", "high"):
            require_number(self.kind, name, getattr(self, name), 0.0, math.inf, open_high=True)
        require(
            self.spacing == "difference" or (self.low > 0 and self.high > 0),
            f'{self.kind}: spacing "factor" needs a low and a high above 0, '
            f"not {self.low:g} and {self.high:g}",
        )

    def rate(self, step: int) -> float:
        fraction = min(step / max(self.steps - 1, 1), 1.0)
        if self.spacing == "difference":
            return self.low + (self.high - self.low) * fraction
        return float(self.low * (self.high / self.low) ** fraction)
