"""Ratios of two durations, with confidence intervals.

Intervals are of medians, from order statistics: they are exact for any distribution of the
durations, as long as the rounds are independent. If the rounds of A and B alternate (A B, B A, and
so on), they are compared in pairs, so that whatever slows both cancels out. Rounds that were timed
at different times are compared by `sessions`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, isnan

import numpy as np
import scipy

CONFIDENCE = 0.95


class Speed(StrEnum):
    """The verdict of a ratio: AMBIGUOUS if the interval contains the value it is compared with.

    SAME is the verdict of an interval within an equivalence margin.
    """

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    AMBIGUOUS = "AMBIGUOUS"


@dataclass(frozen=True)
class Ratio:
    """The duration of A divided by that of B, which is the speedup of B.

    `low` and `high` are the ends of its 95% confidence interval.
    """

    low: float
    median: float
    high: float
    rounds: int

    @property
    def speed(self) -> Speed:
        """The verdict on B compared with A."""
        return self.compare(1.0)

    def compare(self, goal: float) -> Speed:
        """Return FASTER if the whole interval is above the goal, SLOWER if it is below."""
        if self.low > goal:
            return Speed.FASTER
        return Speed.SLOWER if self.high < goal else Speed.AMBIGUOUS

    def within(self, margin: float) -> Speed:
        """Return FASTER or SLOWER if the whole interval is beyond a relative margin around 1, SAME
        if it is within, otherwise AMBIGUOUS."""
        least, most = 1 / (1 + margin), 1 + margin
        if least <= self.low and self.high <= most:
            return Speed.SAME
        if self.high < least:
            return Speed.SLOWER
        return Speed.FASTER if self.low > most else Speed.AMBIGUOUS

    def describe(self, goal: float) -> str:
        """Return the ratio as text, with the goal and whether it is met."""
        words = {Speed.FASTER: "met", Speed.SLOWER: "missed", Speed.AMBIGUOUS: "AMBIGUOUS"}
        return f"{self}, goal {goal:g}: {words[self.compare(goal)]}"

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return a confidence interval of the median.

    It has at least the given confidence. It is (0, inf) if there are too few values.
    """
    found = scipy.stats.quantile_test(values, q=0, p=0.5).confidence_interval(confidence)
    low, high = float(found.low), float(found.high)
    return (0.0 if isnan(low) else low, inf if isnan(high) else high)


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """Return the ratio of rounds that alternated; round i of A is paired with round i of B."""
    ratios = np.divide(a, b)
    interval = median_interval(ratios.tolist())
    return Ratio(*_containing(*interval, float(np.median(ratios))), len(ratios))


def _containing(low: float, high: float, value: float) -> tuple[float, float, float]:
    """Return the interval, widened to contain the value, around the value."""
    return min(low, value), value, max(high, value)


def interleave(
    candidates: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Time the candidates in turn, and return the seconds of each round by candidate.

    Odd rounds run in reverse order, so that no candidate always follows the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        names = list(candidates)
        for name in names if number % 2 == 0 else reversed(names):
            started = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - started)
    return seconds
