"""Ratios: intervals that hold what they say, verdicts that need the whole interval, rounds taken in
turn."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from dlsys_bench.timing.ratio import (
    Ratio,
    Speed,
    interleave,
    median_interval,
    paired_ratio,
    unpaired_ratio,
)


def test_the_interval_of_a_median_is_of_order_statistics() -> None:
    # Of 6 values the extremes hold the median with 1 - 2 / 2^6 = 96.9%; 5 cannot with 95%.
    assert median_interval([1, 2, 3, 4, 5, 6]) == (1, 6)
    assert median_interval([1, 2, 3, 4, 5]) == (0, inf)
    assert median_interval(list(range(1, 21))) == (6, 15)


def test_a_goal_is_met_only_by_the_whole_interval() -> None:
    ratio = Ratio(2.5, 3.1, 3.5, 9)
    assert [ratio.describe(goal).partition(", ")[2] for goal in (2.0, 3.0, 4.0)] == [
        "3.50], goal 2: met",
        "3.50], goal 3: AMBIGUOUS",
        "3.50], goal 4: missed",
    ]


def test_a_verdict_needs_the_whole_interval() -> None:
    assert Ratio(1.1, 1.5, 2.0, 9).speed is Speed.FASTER
    assert Ratio(0.5, 0.6, 0.9, 9).speed is Speed.SLOWER
    assert Ratio(0.9, 1.5, 2.0, 9).speed is Speed.AMBIGUOUS
    assert Ratio(2.5, 3.1, 3.5, 9).compare(3.0) is Speed.AMBIGUOUS
    assert str(Ratio(2.5, 3.1, 3.5, 9)) == "3.10 [2.50, 3.50]"


def test_too_few_rounds_say_nothing() -> None:
    assert paired_ratio([2.0] * 5, [1.0] * 5) == Ratio(0.0, 2.0, inf, 5)
    assert unpaired_ratio([2.0] * 6, [1.0] * 6).speed is Speed.AMBIGUOUS
    assert unpaired_ratio([2.0] * 7, [1.0] * 7) == Ratio(2.0, 2.0, 2.0, 7)


def test_what_slows_both_falls_out_of_a_pair() -> None:
    load = np.linspace(1, 10, 12)
    assert paired_ratio((2 * load).tolist(), load.tolist()) == Ratio(2.0, 2.0, 2.0, 12)
    assert unpaired_ratio((2 * load).tolist(), load.tolist()).speed is Speed.AMBIGUOUS


def test_a_machine_that_drifted_widens_the_interval() -> None:
    a, b = [1.2] * 12, [1.0] * 12
    assert unpaired_ratio(a, b).speed is Speed.FASTER
    for drift in (1.3, 1 / 1.3):
        found = unpaired_ratio(a, b, drift)
        assert (found.low, found.high) == (pytest.approx(1.2 / 1.3), pytest.approx(1.2 * 1.3))
        assert found.speed is Speed.AMBIGUOUS


@pytest.mark.parametrize("rounds", [7, 12, 40])
def test_equal_things_are_seldom_told_apart(rounds: int) -> None:
    """Of skewed and heavy-tailed times, with now and then a round of many times the length."""
    generator, looks = np.random.default_rng(rounds), 1000
    wrong = {"paired": 0, "apart": 0}
    for _ in range(looks):
        times = 1 + 0.1 * generator.pareto(1.5, (2, rounds))
        wrong["paired"] += paired_ratio(*times).speed is not Speed.AMBIGUOUS
        wrong["apart"] += unpaired_ratio(*times).speed is not Speed.AMBIGUOUS
    # 5% and 4.6 standard deviations of what is counted.
    assert max(wrong.values()) < looks * 0.05 + 4.6 * (looks * 0.05 * 0.95) ** 0.5


def test_a_load_that_comes_and_goes_gives_no_false_verdict() -> None:
    """A neighbour slows stretches of the rounds to half the speed: equal things stay AMBIGUOUS."""
    generator, looks = np.random.default_rng(1), 300
    wrong = 0
    for _ in range(looks):
        times = []
        for _ in range(2):
            loaded = np.repeat(generator.random(8) < 0.5, 15)
            times.append(np.where(loaded, 2.0, 1.0) * generator.normal(1, 0.01, 120))
        wrong += unpaired_ratio(*times).speed is not Speed.AMBIGUOUS
    assert wrong < looks * 0.05 + 4.6 * (looks * 0.05 * 0.95) ** 0.5


def test_a_true_difference_is_found() -> None:
    generator = np.random.default_rng(3)
    a, b = 1.2 * generator.lognormal(0, 0.05, 20), generator.lognormal(0, 0.05, 20)
    assert paired_ratio(a, b).speed is unpaired_ratio(a, b).speed is Speed.FASTER


def test_rounds_are_taken_in_turn() -> None:
    calls: list[str] = []
    found = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert [len(found[name]) for name in "ab"] == [3, 3]
