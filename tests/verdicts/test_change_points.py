"""Change points: the stated false-alarm rate, and the number of commits to find a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from dlsys_bench.verdicts.change_points import ChangePoint, change_points, largest_split

ALPHA = 0.05
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "few values": lambda rng, n: rng.binomial(4, 0.3, n).astype(float),
    "collapses": lambda rng, n: np.where(rng.random(n) < 0.1, 0.1, 0.95 + 0.01 * rng.random(n)),
}


def alarms(draw: Draw, histories: int, length: int) -> int:
    """Return the number of histories without a change in which one is found."""
    rng = np.random.default_rng(1)
    return sum(bool(change_points(list(draw(rng, length)), ALPHA)) for _ in range(histories))


def assert_rate(count: int, histories: int) -> None:
    # With the stated rate, a larger count has a probability of 1e-4.
    assert count <= binom.isf(1e-4, histories, ALPHA)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_few_histories_without_a_change_have_one(name: str) -> None:
    assert_rate(alarms(DISTRIBUTIONS[name], 60, 24), 60)


@pytest.mark.slow
@pytest.mark.parametrize("length", [8, 30, 100])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_thousand_histories_without_a_change(name: str, length: int) -> None:
    assert_rate(alarms(DISTRIBUTIONS[name], 1000, length), 1000)


def found_within(commits: int, histories: int, step: float = 3.0) -> tuple[float, float]:
    """Return the fractions of histories in which a step after 20 commits is detected within a
    number of commits, and located within two commits of its place."""
    rng, detected, located = np.random.default_rng(2), 0, 0
    for _ in range(histories):
        values = rng.standard_normal(20 + commits)
        values[20:] += step
        found = change_points(list(values), 0.01)
        detected += bool(found)
        located += any(abs(one.position - 20) <= 2 for one in found)
    return detected / histories, located / histories


def test_a_step_of_one_mde_is_detected_within_eight_commits() -> None:
    """The MDE of a gate with 20 reference runs is three standard deviations."""
    assert found_within(8, 40)[0] >= 0.95
    assert found_within(1, 40)[0] <= 0.1


@pytest.mark.slow
def test_a_step_of_one_mde_is_detected_and_located_in_a_thousand_histories() -> None:
    detected, located = found_within(8, 1000)
    assert detected >= 0.95
    assert located >= 0.9


def test_two_steps_are_found_where_they_are() -> None:
    steady = np.array([0.0, 1.0] * 6)
    values = [*steady, *(steady + 9), *(steady + 4)]
    first, second = change_points(values, 0.01)
    assert (first.position, second.position) == (12, 24)
    assert (first.before, first.after, second.after) == pytest.approx((0.5, 9.5, 4.5))


@pytest.mark.parametrize("values", [[], [1.0], [1.0] * 3, [2.0] * 50, [1.0, 1.0, 5.0, 5.0]])
def test_a_series_that_is_short_or_constant_has_no_change(values: list[float]) -> None:
    assert change_points(values, 0.01) == []


def test_the_p_value_counts_the_orders_that_are_as_extreme() -> None:
    # Of the 70 choices of four of eight ranks, 2 separate the lower from the upper half; the only
    # splits that are as extreme are those.
    place, p_value = largest_split(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]))
    assert place == 4
    assert p_value == pytest.approx(2 / 70, abs=0.012)


def test_a_change_is_a_record() -> None:
    (change,) = change_points([0.0, 1.0] * 6 + [20.0, 21.0] * 6, 0.01)
    assert isinstance(change, ChangePoint)
    assert change.p_value <= 0.01
