"""Ratios: the coverage of their intervals, their verdicts, and interleaved rounds."""

from __future__ import annotations

import math
from math import inf

import numpy as np
import pytest

from dlsys_bench.timing.ratio import (
    Ratio,
    Speed,
    interleave,
    median_interval,
    paired_ratio,
)
from dlsys_bench.timing.sessions import session_ratio


def test_the_interval_of_a_median_consists_of_order_statistics() -> None:
    # The extremes of 6 values contain the median with 1 - 2 / 2^6 = 96.9%, those of 5 with less
    # than 95%.
    assert median_interval([1, 2, 3, 4, 5, 6]) == (1, 6)
    assert median_interval([1, 2, 3, 4, 5]) == (0, inf)
    assert median_interval(list(range(1, 21))) == (6, 15)


def test_a_goal_is_met_if_the_whole_interval_is_above_it() -> None:
    ratio = Ratio(2.5, 3.1, 3.5, 9)
    assert [ratio.describe(goal).partition(", ")[2] for goal in (2.0, 3.0, 4.0)] == [
        "3.50], goal 2: met",
        "3.50], goal 3: AMBIGUOUS",
        "3.50], goal 4: missed",
    ]


def test_a_verdict_is_ambiguous_if_the_interval_contains_the_value() -> None:
    assert Ratio(1.1, 1.5, 2.0, 9).speed is Speed.FASTER
    assert Ratio(0.5, 0.6, 0.9, 9).speed is Speed.SLOWER
    assert Ratio(0.9, 1.5, 2.0, 9).speed is Speed.AMBIGUOUS
    assert Ratio(2.5, 3.1, 3.5, 9).compare(3.0) is Speed.AMBIGUOUS
    assert str(Ratio(2.5, 3.1, 3.5, 9)) == "3.10 [2.50, 3.50]"


def test_too_few_rounds_are_ambiguous() -> None:
    assert paired_ratio([2.0] * 5, [1.0] * 5) == Ratio(0.0, 2.0, inf, 5)


def test_a_common_slowdown_cancels_out_in_pairs() -> None:
    load = np.linspace(1, 10, 12)
    assert paired_ratio((2 * load).tolist(), load.tolist()) == Ratio(2.0, 2.0, 2.0, 12)
    assert session_ratio([(2 * load).tolist()], [load.tolist()], 0.0).speed is Speed.AMBIGUOUS


def most_false_alarms(trials: int) -> float:
    """Return the expected number at a rate of 5%, plus 4.6 standard deviations."""
    return trials * 0.05 + 4.6 * math.sqrt(trials * 0.05 * 0.95)


@pytest.mark.parametrize("rounds", [7, 12, 40])
@pytest.mark.parametrize("trials", [250, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_false_alarm_rate_of_equal_candidates(rounds: int, trials: int) -> None:
    """Times are skewed and heavy-tailed: some rounds take many times as long as the others."""
    generator = np.random.default_rng(rounds)
    wrong = {"paired": 0, "unpaired": 0}
    for _ in range(trials):
        times = (1 + 0.1 * generator.pareto(1.5, (2, rounds))).tolist()
        wrong["paired"] += paired_ratio(*times).speed is not Speed.AMBIGUOUS
        found = session_ratio(times[:1], times[1:], 0.0)
        wrong["unpaired"] += found.speed is not Speed.AMBIGUOUS
    assert max(wrong.values()) < most_false_alarms(trials)


def test_intermittent_load_keeps_the_false_alarm_rate() -> None:
    """Background load halves the speed in random blocks of the rounds of equal candidates."""
    generator, trials = np.random.default_rng(1), 300
    wrong = 0
    for _ in range(trials):
        times = []
        for _ in range(2):
            loaded = np.repeat(generator.random(8) < 0.5, 15)
            times.append((np.where(loaded, 2.0, 1.0) * generator.normal(1, 0.01, 120)).tolist())
        wrong += session_ratio(times[:1], times[1:], 0.0).speed is not Speed.AMBIGUOUS
    assert wrong < most_false_alarms(trials)


def test_a_difference_of_a_fifth_is_found() -> None:
    generator = np.random.default_rng(3)
    a = (1.2 * generator.lognormal(0, 0.05, 20)).tolist()
    b = generator.lognormal(0, 0.05, 20).tolist()
    assert paired_ratio(a, b).speed is session_ratio([a], [b], 0.02).speed is Speed.FASTER


def test_rounds_are_interleaved() -> None:
    calls: list[str] = []
    found = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(found[name]) for name in "ab"] == [3, 3]
