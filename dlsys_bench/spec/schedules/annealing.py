"""Schedules that end at a low learning rate: cosine, step and one-cycle."""

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


def _cosine(start: float, end: float, fraction: float) -> float:
    """Return the value of a half cosine from `start` (fraction 0) to `end` (fraction 1)."""
    return end + (start - end) * (1.0 + math.cos(math.pi * fraction)) / 2.0


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """A half cosine from `base` to `final` in `steps` steps, then constant.

    The rate of step t is final + (base - final) (1 + cos(pi t / steps)) / 2. Keras's `CosineDecay`
    has alpha = final / base. torch's `CosineAnnealingLR` is equal up to `steps`, but rises again
    after it. Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts.
    """

    base: float = 0.001
    steps: int = 1000
    final: float = 0.0

    kind: ClassVar[str] = "cosine_decay"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"steps": 0}, "steps is 0"),
        ({"base": -0.1}, "base is -0.1"),
        ({"final": math.inf}, "final is inf"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "cosine_decay": {"base": (0.2,), "steps": (9,)},
        "cosine_decay-final": {"base": (0.2,), "steps": (6,), "final": (0.02,)},
    }

    def __post_init__(self) -> None:
        for name in ("base", "final"):
            require_number(self.kind, name, getattr(self, name), 0.0, math.inf, open_high=True)
        require_count(self.kind, "steps", self.steps)

    @property
    def length(self) -> int:
        return self.steps

    def rate(self, step: int) -> float:
        return _cosine(self.base, self.final, min(step / self.steps, 1.0))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the rate by `factor` after every `every` steps: base factor^(t // every).

    torch's `StepLR` with one step per update, and Keras's `ExponentialDecay` with `staircase`.
    """

    base: float = 0.1
    every: int = 1000
    factor: float = 0.1

    kind: ClassVar[str] = "step_decay"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"every": 0}, "every is 0"),
        ({"base": math.nan}, "base is nan"),
        ({"factor": 0.0}, "factor is 0.0"),
        ({"factor": 1.5}, "factor is 1.5"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "step_decay": {"base": (0.2,), "every": (2,), "factor": (0.5,)}
    }

    def __post_init__(self) -> None:
        require_number(self.kind, "base", self.base, 0.0, math.inf, open_high=True)
        require_count(self.kind, "every", self.every)
        require_number(self.kind, "factor", self.factor, 0.0, 1.0, open_low=True)

    def rate(self, step: int) -> float:
        return self.base * self.factor ** (step // self.every)


ANNEALINGS = ("cosine", "linear")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to `maximum` and down again in `steps` steps, as torch's `OneCycleLR` without a cycle of
    the momentum.

    The rate starts at maximum / start_divisor, is `maximum` after the fraction `rising` of the
    steps, counted as torch does (step rising * steps - 1), and is the start divided by
    `final_divisor` in the last step. It then stays there, where torch raises an error. Smith &
    Topin 2018, arXiv:1708.07120.
    """

    maximum: float = 0.1
    steps: int = 1000
    rising: float = 0.3
    start_divisor: float = 25.0
    final_divisor: float = 1e4
    annealing: Literal["cosine", "linear"] = "cosine"

    kind: ClassVar[str] = "one_cycle"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"steps": 0}, "steps is 0"),
        ({"maximum": -1.0}, "maximum is -1.0"),
        ({"rising": 1.0}, "rising is 1.0"),
        ({"rising": 0.1, "steps": 10}, "leaves no step to rise"),
        ({"start_divisor": 0.0}, "start_divisor is 0.0"),
        ({"start_divisor": math.inf}, "start_divisor is inf"),
        ({"final_divisor": -1.0}, "final_divisor is -1.0"),
        ({"annealing": "cos"}, "annealing is 'cos'"),
    )
    variants: ClassVar[Mapping[str, Choices]] = {
        "one_cycle": {"maximum": (0.2,), "steps": (9,), "rising": (0.4,), "final_divisor": (10.0,)},
        "one_cycle-linear": {
            "maximum": (0.2,),
            "steps": (7,),
            "rising": (0.5,),
            "start_divisor": (4.0,),
            "annealing": ("linear",),
        },
    }

    def __post_init__(self) -> None:
        require_number(self.kind, "maximum", self.maximum, 0.0, math.inf, open_high=True)
        require_count(self.kind, "steps", self.steps)
        require_number(self.kind, "rising", self.rising, 0.0, 1.0, open_low=True, open_high=True)
        for name in ("start_divisor", "final_divisor"):
            value = getattr(self, name)
            require_number(self.kind, name, value, 0.0, math.inf, open_low=True, open_high=True)
        require_choice(self.kind, "annealing", self.annealing, ANNEALINGS)
        require(
            self.rising * self.steps > 1,
            f"{self.kind}: rising {self.rising:g} of {self.steps} steps leaves no step to rise; "
            "expected more than 1 / steps",
        )

    @property
    def length(self) -> int:
        return self.steps

    def rate(self, step: int) -> float:
        start, peak, last = (
            self.maximum / self.start_divisor,
            self.rising * self.steps - 1,
            (self.steps - 1),
        )
        if step <= peak:
            return self._between(start, self.maximum, step / peak)
        fraction = min((step - peak) / (last - peak), 1.0)
        return self._between(self.maximum, start / self.final_divisor, fraction)

    def _between(self, first: float, second: float, fraction: float) -> float:
        if self.annealing == "cosine":
            return _cosine(first, second, fraction)
        return first + (second - first) * fraction
