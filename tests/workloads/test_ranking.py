"""Simultaneous intervals of paired arms: their width, their coverage, and ranks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dlsys_bench.workloads import ranking
from dlsys_bench.workloads.ranking import against, critical_value, paired, rank_intervals

TRUTH = np.array([0.0, 0.0, 0.5, 0.5, 1.0])
SPREADS = np.array([1.0, 0.5, 1.0, 2.0, 1.0])


def draw(generator: np.random.Generator, seeds: int = 20) -> ranking.PairedValues:
    """Draw values of arms that share a large effect of the seed."""
    noise = generator.standard_normal((seeds, len(TRUTH)))
    return TRUTH + 5 * generator.standard_normal((seeds, 1)) + SPREADS * noise


def test_the_critical_value_lies_between_one_comparison_and_bonferroni() -> None:
    values = draw(np.random.default_rng(1))
    pairs = np.triu(np.ones((5, 5), bool), 1)
    one, bonferroni = stats.t.ppf([0.975, 1 - 0.025 / 10], 19)
    assert one + 0.3 < critical_value(values, pairs) <= bonferroni
    single = np.zeros((5, 5), bool)
    single[0, 1] = True
    assert critical_value(values, single) == pytest.approx(one, rel=0.05)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_intervals_cover_all_differences_at_the_stated_rate(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "SIMULATIONS", 400)
    generator = np.random.default_rng(2)
    covered, ranked = 0, 0
    for _ in range(count):
        values = draw(generator)
        found = against(values, 0)
        covered += all(
            each.low <= truth <= each.high for each, truth in zip(found, TRUTH, strict=True)
        )
        ranked += all(
            ranks.best <= 1 + (truth < TRUTH).sum() and ranks.worst >= 5 - (truth > TRUTH).sum()
            for ranks, truth in zip(rank_intervals(values), TRUTH, strict=True)
        )
    # Fewer have probability 0.001 if the coverage is 95%.
    least = stats.binom.ppf(0.001, count, 0.95)
    assert covered >= least
    assert ranked >= least
    # Intervals without a correction cover all four differences in about 85% of the cases.
    assert covered <= stats.binom.ppf(0.999, count, 0.975)


def test_the_effect_of_the_seed_does_not_widen_intervals() -> None:
    values = draw(np.random.default_rng(3))
    shifted = values + 100 * np.random.default_rng(4).standard_normal((20, 1))
    for first, second in zip(against(values, 0), against(shifted, 0), strict=True):
        assert second == pytest.approx(first, abs=1e-9)


def test_arms_that_differ_clearly_have_one_rank_each() -> None:
    noise = 0.01 * np.random.default_rng(5).standard_normal((20, 3))
    found = rank_intervals(np.array([2.0, 3.0, 1.0]) + noise)
    assert found == [(2, 2), (1, 1), (3, 3)]
    alike = np.random.default_rng(6).standard_normal((20, 3))
    assert rank_intervals(alike) == [(1, 3)] * 3


def test_runs_are_paired_by_the_seeds_that_all_arms_have() -> None:
    seeds, values = paired([{1: 0.1, 2: 0.2, 3: 0.3}, {3: 0.6, 2: 0.5}])
    assert seeds == [2, 3]
    assert values.tolist() == [[0.2, 0.5], [0.3, 0.6]]
