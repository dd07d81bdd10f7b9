"""The warm-up, and the constant rate that it may lead to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.record import Choices, Invalid, require, require_count, require_number
from dlsys_bench.spec.schedules.annealing import CosineDecay, StepDecay
from dlsys_bench.spec.schedules.base import Schedule


@dataclass(frozen=True)
class ConstantRate(Schedule):
    """One learning rate for all steps, for a warm-up that leads to it."""

    value: float = 0.001

    kind: ClassVar[str] = "constant_rate"
    invalid: ClassVar[tuple[Invalid, ...]] = (({"value": -0.1}, "value is -0.1"),)
    variants: ClassVar[Mapping[str, Choices]] = {"constant_rate": {"value": (0.2,)}}

    def __post_init__(self) -> None:
        require_number(self.kind, "value", self.value, 0.0, math.inf, open_high=True)

    def rate(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A straight line from `start` to the first rate of the schedule `after`, in `steps` steps;
    then that schedule, from its step 0.

    Step t < steps has start + (after.rate(0) - start) t / steps. With `start` 0 the first update
    has a rate of zero, as in Keras's `CosineDecay(warmup_target=...)` and in the schedulers of
    Hugging Face. Some codes use (t + 1) / steps, which is a start of after.rate(0) / steps in one
    step fewer. Goyal et al. 2017, arXiv:1706.02677.
    """

    steps: int = 100
    after: Schedule = ConstantRate()
    start: float = 0.0

    kind: ClassVar[str] = "warm_up"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"steps": 0}, "steps is 0"),
        ({"start": -0.1}, "start is -0.1"),
        ({"after": 0.1}, "ConstantRate(0.1)"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "warm_up": {"steps": (3,), "after": (ConstantRate(0.2),)},
        "warm_up-cosine": {"steps": (4,), "after": (CosineDecay(0.2, 5),), "start": (0.01,)},
        "warm_up-step": {"steps": (2,), "after": (StepDecay(0.2, 3, 0.5),)},
    }

    def __post_init__(self) -> None:
        require_count(self.kind, "steps", self.steps)
        require_number(self.kind, "start", self.start, 0.0, math.inf, open_high=True)
        require(
            isinstance(self.after, Schedule),
            f"{self.kind}: after is {self.after!r}; expected a schedule, such as "
            f"ConstantRate({self.after if isinstance(self.after, int | float) else 0.1})",
        )

    @property
    def length(self) -> int:
        return self.steps + (self.after.length or 0)

    def rate(self, step: int) -> float:
        if step >= self.steps:
            return self.after.rate(step - self.steps)
        return self.start + (self.after.rate(0) - self.start) * step / self.steps
