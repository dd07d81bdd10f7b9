"""The exact rank-sum test agrees with the exact and the permutation tests of SciPy."""

from __future__ import annotations

from itertools import combinations
from math import comb, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dlsys_bench.verdicts.ranks import p_values, smallest_p_value, untied

FEW = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=5)


@given(n=st.integers(1, 12), m=st.integers(1, 8), seed=st.integers(0, 2**20))
def test_p_values_without_ties_agree_with_mann_whitney(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=n), generator.normal(size=m)
    found = p_values(x, y)
    for chance, side in ((found.low, "less"), (found.high, "greater")):
        assert chance == pytest.approx(
            stats.mannwhitneyu(y, x, alternative=side, method="exact").pvalue, rel=1e-9
        )


@given(x=FEW, y=FEW)
def test_p_values_with_ties_agree_with_enumeration(x: list[float], y: list[float]) -> None:
    ranks = stats.rankdata(x + y)
    sums = [ranks[list(chosen)].sum() for chosen in combinations(range(len(ranks)), len(y))]
    found = p_values(x, y)
    assert found.low == pytest.approx(np.mean(np.array(sums) <= ranks[len(x) :].sum() + 1e-9))
    assert found.high == pytest.approx(np.mean(np.array(sums) >= ranks[len(x) :].sum() - 1e-9))


def test_values_that_differ_by_rounding_are_tied() -> None:
    assert 0.1 + 0.2 != 0.3
    assert p_values([0.3], [0.1 + 0.2]) == (1.0, 1.0)
    assert p_values([0.0, 0.0], [0.0]) == (1.0, 1.0)
    assert p_values([0.96], [0.960001]).low == 1.0
    assert p_values([0.96], [0.960001]).high == 0.5


def test_infinite_values_are_the_most_extreme() -> None:
    assert p_values([0.9, 0.95], [-inf]) == pytest.approx((1 / 3, 1.0))
    assert p_values([0.9, -inf], [-inf]).low == pytest.approx(2 / 3)
    assert p_values([-inf], [inf]) == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize(("n", "m"), [(20, 2), (20, 8), (5, 12), (1, 1)])
def test_smallest_p_value_is_that_of_the_most_extreme_outcome(n: int, m: int) -> None:
    assert smallest_p_value(n, m) == 1 / comb(n + m, m)
    below = untied(n, m)
    assert len(below) == n * m + 1
    assert below[0] == pytest.approx(smallest_p_value(n, m))
    assert below[-1] == 1.0
    assert p_values(range(n), range(-m, 0)).low == pytest.approx(smallest_p_value(n, m), rel=1e-9)
    assert p_values(range(n), range(n, n + m)).high == pytest.approx(
        smallest_p_value(n, m), rel=1e-6
    )
