"""How the learning rate moves, step by step. A schedule of one's own is a subclass with a `kind`
and a `rate`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.record import Record, require, require_choice, require_count, require_number


@dataclass(frozen=True)
class Schedule(Record):
    """The learning rate as a function of the step."""

    def rate(self, step: int) -> float:
        """The rate of an update; the first update is step 0."""
        raise NotImplementedError


SCALES = ("triangular", "triangular2", "exp_range")


@dataclass(frozen=True)
class CyclicalLearningRate(Schedule):
    """From `base` to `maximum` in `step_size` steps, and back in as many. Smith 2015,
    arXiv:1506.01186.

    The reach of a cycle is scaled: "triangular" by 1, "triangular2" by a half more each cycle,
    "exp_range" by gamma ** step. A subclass that overrides `scaled` has any other. A base above the
    maximum starts high and dips.
    """

    base: float = 0.001
    maximum: float = 0.006
    step_size: int = 2000
    scale: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0

    kind: ClassVar[str] = "cyclical_learning_rate"

    def __post_init__(self) -> None:
        for name in ("base", "maximum"):
            require_number(self.kind, name, getattr(self, name), 0.0, math.inf, open_high=True)
        require_count(self.kind, "step_size", self.step_size)
        require_choice(self.kind, "scale", self.scale, SCALES)
        require_number(self.kind, "gamma", self.gamma, 0.0, 1.0)

    def scaled(self, cycle: int, step: int) -> float:
        """The reach of a step in [0, 1]; cycles count from 1."""
        if self.scale == "exp_range":
            return self.gamma**step
        return 0.5 ** (cycle - 1) if self.scale == "triangular2" else 1.0

    def rate(self, step: int) -> float:
        cycle = 1 + step // (2 * self.step_size)
        distance = abs(step / self.step_size - 2 * cycle + 1)
        return self.base + (self.maximum - self.base) * (1.0 - distance) * self.scaled(cycle, step)


@dataclass(frozen=True)
class LearningRateRamp(Schedule):
    """From `low` to `high` in so many steps, by equal factors or equal differences; then it stays.
    What a learning-rate range test runs: Smith 2015, section 3.3."""

    low: float = 1e-6
    high: float = 10.0
    steps: int = 100
    spacing: Literal["factor", "difference"] = "factor"

    kind: ClassVar[str] = "learning_rate_ramp"

    def __post_init__(self) -> None:
        require_count(self.kind, "steps", self.steps)
        require_choice(self.kind, "spacing", self.spacing, ("factor", "difference"))
        for name in ("low", "high"):
            require_number(self.kind, name, getattr(self, name), 0.0, math.inf, open_high=True)
        positive = self.spacing == "difference" or (self.low > 0 and self.high > 0)
        require(
            positive,
            f"{self.kind}: equal factors need a low and a high above 0, not {self.low:g} and {self.high:g}",
        )

    def rate(self, step: int) -> float:
        done = min(step / max(self.steps - 1, 1), 1.0)
        if self.spacing == "difference":
            return self.low + (self.high - self.low) * done
        return float(self.low * (self.high / self.low) ** done)


SCHEDULES: dict[str, type[Schedule]] = {
    record.kind: record for record in (CyclicalLearningRate, LearningRateRamp)
}
