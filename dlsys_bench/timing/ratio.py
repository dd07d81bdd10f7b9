"""How many times one thing is faster than another, and how sure that is.

Intervals are of medians, by order statistics: exact whatever the law of the times, if the rounds
are independent. Rounds taken in turn (A B, B A, ...) are compared pair by pair, so that what slows
both falls out; of rounds taken at different times each side has an interval of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan

import numpy as np
from scipy.stats import quantile_test

CONFIDENCE = 0.95


class Speed(StrEnum):
    """What a ratio says."""

    FASTER = "FASTER"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"


@dataclass(frozen=True)
class Ratio:
    """The seconds of A over those of B, that is how many times B is faster; `low` to `high` holds
    it with 95%."""

    low: float
    middle: float
    high: float
    rounds: int

    @property
    def speed(self) -> Speed:
        """B against A."""
        return self.against(1.0)

    def against(self, goal: float) -> Speed:
        """B against a goal of so many times A: FASTER and SLOWER only where the whole interval
        is."""
        return (
            Speed.FASTER
            if self.low > goal
            else Speed.SLOWER
            if self.high < goal
            else Speed.AMBIGUOUS
        )

    def beside(self, goal: float) -> str:
        """The ratio and whether it is over the goal."""
        said = {Speed.FASTER: "met", Speed.SLOWER: "missed", Speed.AMBIGUOUS: "AMBIGUOUS"}
        return f"{self}, goal {goal:g}: {said[self.against(goal)]}"

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """What holds the median with at least this confidence; unbounded where there are too few values
    to say."""
    found = quantile_test(values, q=0, p=0.5).confidence_interval(confidence)
    low, high = float(found.low), float(found.high)
    return (0.0 if isnan(low) else low, inf if isnan(high) else high)


def paired(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Of rounds taken in turn."""
    ratios = np.divide(a, b)
    return Ratio(*_around(*median_interval(ratios.tolist()), float(np.median(ratios))), len(ratios))


def apart(a: Sequence[float], b: Sequence[float], drift: float = 1.0) -> Ratio:
    """Of rounds taken at different times. `drift` is by how much the machine itself was faster or
    slower: the interval is wider by as much."""
    each = 1 - (1 - CONFIDENCE) / 2
    (low_a, high_a), (low_b, high_b) = (
        median_interval(_blocks(a), each),
        median_interval(_blocks(b), each),
    )
    wider, middle = max(drift, 1 / drift), float(np.median(a) / np.median(b))
    high = high_a / low_b if low_b else inf
    return Ratio(*_around(low_a / high_b / wider, high * wider, middle), min(len(a), len(b)))


def _around(low: float, high: float, middle: float) -> tuple[float, float, float]:
    return min(low, middle), middle, max(high, middle)


BLOCKS = 12


def _blocks(values: Sequence[float]) -> list[float]:
    """Medians of a few stretches of the rounds: neighbours are slowed by the same neighbour, and
    count as one."""
    parts = np.array_split(np.asarray(values), min(BLOCKS, len(values)))
    return [float(np.median(part)) for part in parts]


def interleave(
    contestants: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """The seconds of each contestant in each round, taken in turn: forwards in one round, backwards
    in the next."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            started = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds
