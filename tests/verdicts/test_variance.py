"""Variances pooled over arms: their distribution, and the coverage of intervals based on them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

from dlsys_bench.verdicts.variance import Variance, fit_prior, moderate

Draw = Callable[[np.random.Generator, int], np.ndarray]


@pytest.mark.parametrize(
    ("s0", "d0", "d"), [(1.7, 4.0, 1), (0.3, 4.0, 4), (2.0, 10.0, 3), (1.0, 1.0, 2)]
)
def test_prior_is_recovered_from_simulated_variances(s0: float, d0: float, d: int) -> None:
    """20,000 arms have variances d0 s0^2 / chi2(d0), observed with d degrees of freedom."""
    generator = np.random.default_rng(1)
    true = s0**2 * d0 / generator.chisquare(d0, 20_000)
    prior = fit_prior(true * generator.chisquare(d, 20_000) / d, [d] * 20_000)
    assert prior.df == pytest.approx(d0, rel=0.15)
    assert math.sqrt(prior.variance) == pytest.approx(s0, rel=0.05)


def test_prior_is_recovered_with_unequal_degrees_of_freedom() -> None:
    generator = np.random.default_rng(2)
    df = np.tile([1.0, 2.0, 19.0], 5000)
    true = 4.0 * 6.0 / generator.chisquare(6.0, len(df))
    prior = fit_prior(true * generator.chisquare(df) / df, df)
    assert prior == pytest.approx((4.0, 6.0), rel=0.1)


def test_moments_agree_with_smyth() -> None:
    """trigamma(d0 / 2) = var(log s^2) - trigamma(d / 2) for equal degrees of freedom (limma)."""
    s2, d = np.array([0.1, 3.0, 0.5, 20.0, 1.0, 0.02]), 4.0
    prior = fit_prior(s2, [d] * 6)
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    assert special.polygamma(1, prior.df / 2) == pytest.approx(
        e.var(ddof=1) - special.polygamma(1, d / 2)
    )
    assert math.log(prior.variance) == pytest.approx(
        e.mean() + special.digamma(prior.df / 2) - np.log(prior.df / 2)
    )


def test_equal_variances_are_pooled_into_one_estimate() -> None:
    prior = fit_prior([1.0, 1.2, 0.8], [4, 4, 12])
    assert prior.df == math.inf
    assert prior.variance == pytest.approx((4 * 1.0 + 4 * 1.2 + 12 * 0.8) / 20)
    (first, *_) = moderate([1.0, 1.2, 0.8], [4, 4, 12])
    # Half of the 16 degrees of freedom of the others, and the arm's own 4.
    assert first.df == pytest.approx(12.0)
    assert first.value == pytest.approx((8 * prior.variance + 4 * 1.0) / 12)
    assert first.arms == 3


def test_common_variance_is_at_least_the_mean_variance() -> None:
    """Smyth's s0^2 is smaller if the arms differ, which makes the intervals too narrow."""
    s2 = [0.01, 1.0, 10.0, 3.0]
    prior = fit_prior(s2, [1] * 4)
    assert prior.df < 1.5
    assert prior.variance < np.mean(s2)
    spreads = moderate(s2, [1] * 4)
    assert [spread.value for spread in spreads] == pytest.approx(
        [(prior.df * np.mean(s2) + own) / (prior.df + 1) for own in s2]
    )
    assert [spread.df for spread in spreads] == pytest.approx([prior.df + 1] * 4)


def test_single_arms_keep_their_variance() -> None:
    assert moderate([0.25], [4]) == [Variance(0.25, 4.0, 1)]
    assert moderate([0.0, 0.0, 1.0], [1, 1, 1]) == [
        Variance(0.0, 1.0, 1),
        Variance(0.0, 1.0, 1),
        Variance(1.0, 1.0, 1),
    ]


def test_variances_are_at_least_that_of_the_printed_precision() -> None:
    """Runs that agree to four digits do not lower the pooled variance."""
    step = 1e-4**2 / 12
    spreads = moderate([0.0, 0.0, 4e-8, 6e-8], [1] * 4, floor=step)
    assert all(spread.value > step for spread in spreads)
    assert all(spread.arms == 4 for spread in spreads)
    assert moderate([0.0], [1], floor=step) == [Variance(step, 1.0, 1)]


def test_variances_are_pooled_in_units_of_the_scales() -> None:
    """Standard deviations of a tenth of each scale are equal in these units."""
    scales = np.array([0.1, 1.0, 10.0])
    spreads = moderate((0.01 * scales**2).tolist(), [1, 1, 1], scales.tolist())
    assert [spread.std for spread in spreads] == pytest.approx(0.1 * scales)
    assert [spread.df for spread in spreads] == pytest.approx([2.0] * 3)


def test_outlying_arms_are_not_pooled() -> None:
    """The others are estimated as without the outlying arm, and it keeps its own variance."""
    alone = moderate([1.0, 2.0, 0.7], [1] * 3)
    *others, wild = moderate([1.0, 2.0, 0.7, 2500.0], [1] * 4)
    assert others == alone
    assert wild == Variance(2500.0, 1.0, 1)
    # An arm with twice the standard deviation is pooled.
    assert all(spread.arms == 4 for spread in moderate([1.0, 2.0, 0.7, 4.0], [1] * 4))


def ladder(ratio: float) -> Draw:
    return lambda _, arms: np.geomspace(1.0, ratio, arms)


def covered(draw: Draw, arms: int, trials: int, runs: int = 2) -> tuple[np.ndarray, float, float]:
    """Return how often a new run of each arm lies in its 95% interval, and the median half-widths.

    The half-widths, with pooling and without, are in units of the true standard deviations.
    """
    generator = np.random.default_rng(20)
    inside, widths = np.zeros(arms), []
    for _ in range(trials):
        true = draw(generator, arms)
        stored = generator.normal(0.0, true[:, None], (arms, runs))
        new, variances = generator.normal(0.0, true), stored.var(axis=1, ddof=1)
        spreads = moderate(variances.tolist(), [runs - 1] * arms)
        scale = math.sqrt(1 + 1 / runs)
        quantiles = special.stdtrit([s.df for s in spreads], 0.975)
        half = scale * quantiles * [s.std for s in spreads]
        inside += np.abs(new - stored.mean(axis=1)) <= half
        widths.append(
            (half / true, scale * special.stdtrit(runs - 1, 0.975) * np.sqrt(variances) / true)
        )
    pooled, own = np.median(np.concatenate(widths, axis=1), axis=1)
    return inside.astype(int), float(pooled), float(own)


FOUR_ARMS = pytest.mark.rotates("coverage of intervals of four arms", 1)


@pytest.mark.parametrize(
    ("draw", "arms", "trials", "least"),
    [
        pytest.param(ladder(1.0), 4, 1000, 0.95, marks=FOUR_ARMS),
        pytest.param(ladder(2.0), 4, 1000, 0.94, marks=FOUR_ARMS),
        pytest.param(ladder(4.0), 4, 1000, 0.945, marks=FOUR_ARMS),
        pytest.param(
            lambda g, k: np.sqrt(4.0 / g.chisquare(4.0, k)), 4, 1000, 0.93, marks=FOUR_ARMS
        ),
        (ladder(1.0), 20, 60, 0.93),
        (ladder(4.0), 20, 60, 0.91),
    ],
    ids=["alike", "twofold", "fourfold", "inverse chi-squared", "20 alike", "20 fourfold"],
)
def test_intervals_of_two_runs_have_their_coverage_on_average(
    draw: Draw, arms: int, trials: int, least: float
) -> None:
    """The coverage is not significantly below the stated one, at less than half the width."""
    inside, pooled, own = covered(draw, arms, trials)
    total = stats.binomtest(int(inside.sum()), arms * trials).proportion_ci(0.999)
    assert total.high >= least, (inside / trials, inside.sum() / arms / trials)
    assert pooled < own / 2


def test_most_variable_arm_has_a_lower_coverage() -> None:
    """The cost of pooling standard deviations from one to four is borne by the widest arm."""
    inside, _, _ = covered(ladder(4.0), 4, 1000)
    assert 0.82 < inside[-1] / 1000 < 0.93
    assert inside[0] / 1000 > 0.95
