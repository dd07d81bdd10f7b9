"""Comparisons of two sets of runs: their relations and their error rates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from results import changed, make_result
from scipy import stats

from dlsys_bench.cli import cli
from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import UserError
from dlsys_bench.report.all_arms import arms_table
from dlsys_bench.report.page import write as write_report
from dlsys_bench.report.tables import comparison_table
from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import append
from dlsys_bench.verdicts.all_arms import (
    ArmSides,
    compare_all_engines,
    compare_arms,
    compare_engines,
)
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.comparison import Comparison, Relation
from dlsys_bench.verdicts.correlation import correlation
from dlsys_bench.verdicts.difference import Difference, difference, holm, more_runs
from dlsys_bench.verdicts.tails import GRID, tails

NOISE = np.random.default_rng(3).normal(0.0, 0.001, 40)


def runs(
    values: Sequence[float | None], arm: str = "dropout", first_seed: int = 0, **changes: Any
) -> list[Result]:
    """Return a run for each value; None is a run that diverged."""
    made = make_result(study="regularization/lenet5-tanh", arm=arm, seconds=1.0)
    lost = {"status": "diverged", "reason": "the loss became nan"}
    return [
        changed(
            made,
            seed=first_seed + n,
            **(lost if value is None else {}),
            history=[] if value is None else [Epoch(1, 1, 1.0, 1.0 - value, test_accuracy=value)],
            **changes,
        )
        for n, value in enumerate(values)
    ]


def only(a: list[Result], b: list[Result], **options: Any) -> Comparison:
    (one,) = (one for one in compare(a, b, **options) if one.relation is not Relation.LEFT_OUT)
    return one


BASE = runs(list(0.9 + NOISE[:8]))


def test_equivalent_means_are_the_same() -> None:
    """The p-value is the larger one of two one-sided paired tests by SciPy."""
    x, y = 0.9 + NOISE[:8], 0.9005 + NOISE[:8] + 0.3 * NOISE[8:16]
    one = only(runs(list(x)), runs(list(y)))
    low, high = (
        stats.ttest_1samp(y - x, edge, alternative=side).pvalue
        for edge, side in ((-0.005, "greater"), (0.005, "less"))
    )
    assert one.relation is Relation.SAME
    assert one.difference is not None
    assert one.difference.within(0.005) == pytest.approx(max(low, high))
    assert one.difference.mean == pytest.approx((y - x).mean())
    assert "inside ±0.005 (8 pairs)" in one.reason
    assert only(runs(list(x)), runs(list(y)), margin=0.0006).relation is not Relation.SAME


def test_runs_are_paired_only_where_equal_seeds_correlate() -> None:
    """The seeds of uncorrelated runs say nothing: Welch's test then uses all runs."""
    x, more = list(0.9 + NOISE[:8]), list(0.9 + NOISE[16:24])
    alike = only(runs(x + more), runs(list(np.array(x) + 0.1 * NOISE[8:16])))
    assert alike.difference is not None
    assert alike.difference.how == "8 pairs"
    unlike = only(runs(x + more), runs(list(0.9 + NOISE[8:16])))
    assert unlike.difference is not None
    assert unlike.difference.how == "Welch, 8 and 16 runs"
    expected = stats.ttest_ind(0.9 + NOISE[8:16], x + more, equal_var=False)
    assert unlike.difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_runs_that_oppose_each_other_are_paired() -> None:
    """Welch's interval would be too narrow for runs with a negative correlation."""
    x, y = list(0.9 + NOISE[:8]), list(0.9 - NOISE[:8] + 0.1 * NOISE[8:16])
    one = only(runs(x), runs(y))
    assert one.difference is not None
    assert one.difference.how == "8 pairs"


def test_the_correlation_of_one_arm_is_that_of_pearson() -> None:
    x, y = NOISE[:9], NOISE[:9] + NOISE[9:18]
    a, b = (dict(enumerate(values.tolist())) for values in (x, y))
    expected = stats.pearsonr(x, y)
    assert correlation([(a, b)]) == pytest.approx((expected.statistic, expected.pvalue))
    pooled = correlation([(a, b), (b, a), (a, {0: 1.0}), (dict.fromkeys(a, 0.5), b)])
    assert pooled.r == pytest.approx(expected.statistic)
    assert pooled.p < expected.pvalue
    assert correlation([(a, dict.fromkeys(range(100, 109), 0.1))]) == (0.0, 1.0)


def test_different_tails_are_not_the_same() -> None:
    """The means agree, but a run of B collapsed, or B varies four times as much."""
    base = list(0.9 + NOISE[:20])
    one = only(runs(base), runs([*(0.9 + NOISE[20:39]), 0.88], first_seed=50))
    assert one.relation is Relation.UNDECIDED
    assert "a run of B has 0.88" in one.reason
    reverse = only(runs([*(0.9 + NOISE[20:39]), 0.88], first_seed=50), runs(base))
    assert "a run of A has 0.88" in reverse.reason
    wide = 0.9 + 4 * (NOISE[20:] - NOISE[20:].mean())
    spread = only(runs(base), runs(list(wide), first_seed=50), margin=0.003)
    assert spread.relation is Relation.DIFFERS
    assert "the tails differ: from A to B, the mean of the lowest tenth changes by -0.0" in (
        spread.reason
    )
    # Where the margin is wider than the tails, they do not matter.
    assert only(runs(base), runs(list(wide), first_seed=50), margin=0.05).relation is Relation.SAME


def test_p_values_of_tails_are_exact() -> None:
    """Enumerated over all choices of which runs are those of B."""
    values = np.array([0.1, 0.2, 0.2, 0.3, 0.5, 0.55, 0.6, 0.9])
    doubled = 2 * stats.rankdata(values) - 9
    chosen = [list(each) for each in combinations(range(8), 3)]
    smallest = 1.0
    for part in (np.minimum(doubled, 0), np.maximum(doubled, 0), doubled):
        scores = np.rint(GRID * part**2 / (part**2).max())
        sums = np.array([scores[each].sum() for each in chosen])
        found = scores[[0, 1, 7]].sum()
        p = 2 * min((sums <= found).mean(), (sums >= found).mean())
        smallest = min(smallest, p)
    b, a = values[[0, 1, 7]], values[[2, 3, 4, 5, 6]]
    assert tails(a, b, 1e-12).p == pytest.approx(min(1.0, 3 * smallest))


def test_tails_of_many_runs_have_the_normal_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(5).normal(size=100)
    x, y = draws[:50], 1.6 * draws[50:]
    exact = tails(x, y, 1e-12).p
    monkeypatch.setattr("dlsys_bench.verdicts.tails.FEW", 99)
    assert tails(x, y, 1e-12).p == pytest.approx(exact, rel=0.2)
    assert tails(x, x, 1e-12).p == 1.0


def test_a_shift_within_the_margin_is_no_difference_of_the_tails() -> None:
    x = np.random.default_rng(6).normal(size=60)
    near = tails(x[:30], x[:30] + 0.8, 1.0)
    assert near.p == 1.0
    assert tails(x[:30], x[:30] + 0.8, 0.01).p < 0.05
    assert near.low == pytest.approx(0.8)


def arms_of(shift: float, engine: str, first_seed: int, seeds: int = 20) -> list[Result]:
    """Return runs of ten arms whose figures at equal seeds have a correlation of 0.1."""
    generator = np.random.default_rng(first_seed + 7)
    common = generator.normal(0, 0.3, seeds)
    return [
        run
        for n in range(10)
        for run in runs(
            list(0.9 + 0.01 * (shift + common + generator.normal(0, 0.95, seeds))),
            f"arm {n}",
            first_seed,
            engine=engine,
        )
    ]


def test_a_shift_of_every_arm_is_found_over_all_arms(tmp_path: Path) -> None:
    """No row finds a shift of 0.7 standard deviations; all rows together do."""
    a, b = arms_of(0.0, "numpy", 0), arms_of(-0.7, "torch", 100)
    assert not any(one.relation is Relation.DIFFERS for one in compare(a, b, margin=0.0001))
    (found,) = compare_engines(a, b)
    assert (found.differs, found.arms, found.runs) == (True, 10, 400)
    assert found.shift < -0.5
    assert "B is worse as a whole" in found.message()
    (reverse,) = compare_engines(b, a)
    assert reverse.differs
    assert reverse.shift == pytest.approx(-found.shift)
    (table,) = compare_all_engines([*a, *b])
    assert table.p == found.p
    assert "B is worse as a whole" in arms_table([table]).markdown()
    training = [
        replace(run, key=replace(run.key, study="mine"), history=[], figures={"f": 1.0})
        for run in (*a, *b)
    ]
    report, *_ = write_report(training, tmp_path)
    assert "## Engines\n\n### Engines over all arms" in report.read_text(encoding="utf-8")
    (few,) = compare_engines(a, [run for run in b if run.seed == 100])
    assert "with so few seeds" in few.message()
    assert compare_engines(a[:20], b[:20]) == []


def test_correlated_arms_do_not_differ_more_often_than_stated() -> None:
    """Arms of a study share seeds. The test of independent arms would differ in 20% of the cases.

    Of 150 comparisons at 5%, more than 19 differ with a probability of 1 in 10,000.
    """
    assert stats.binom.sf(19, 150, 0.05) < 1e-4
    generator, found = np.random.default_rng(9), 0
    for _ in range(150):
        common = generator.normal(size=20)
        figures = [common + 0.5 * generator.normal(size=20) for _ in range(8)]
        arms = [
            ArmSides(dict(enumerate(each[:10])), dict(enumerate(each[10:], 50))) for each in figures
        ]
        found += compare_arms(arms, ("a", "b"), 0.05, paired=False, permutations=999).differs
    assert found <= 19


def test_seeds_with_runs_of_other_arms_are_not_exchanged() -> None:
    """Seeds that also ran the second arm are better in both sets; B has fewer of them.

    Within seeds of the same arms, B is better, although it is worse on average.
    """
    generator = np.random.default_rng(8)
    good, poor = generator.normal(5, 1, 15), generator.normal(-5, 1, 15)
    good[10:] += 2
    poor[5:] += 2
    a = {**dict(enumerate(good[:10])), **dict(enumerate(poor[:5], 20))}
    b = {**dict(enumerate(good[10:], 50)), **dict(enumerate(poor[5:], 70))}
    second = ArmSides(dict.fromkeys(range(10), 0.5), dict.fromkeys(range(50, 55), 0.5))
    assert np.mean(list(b.values())) < np.mean(list(a.values()))
    found = compare_arms([ArmSides(a, b), second], ("a", "b"), 0.05, paired=False)
    assert found.p < 0.01


def test_paired_arms_exchange_sides_within_each_seed() -> None:
    """Three arms whose five seeds all drop a little: 2 of 32 exchanges are as extreme."""
    values = NOISE[:5]
    arms = [ArmSides(dict(enumerate(values)), dict(enumerate(values - 1e-5)))] * 3
    found = compare_arms(arms, ("a", "b"), 0.05, paired=True)
    assert found.p == pytest.approx(2 / 32, rel=0.1)
    assert found.smallest_p == 2 / 32
    assert compare_arms(arms, ("a", "b"), 0.05, paired=False).p > 0.5


def test_distant_means_differ() -> None:
    far = only(BASE, runs(list(0.92 + NOISE[8:16])))
    assert far.relation is Relation.DIFFERS
    assert "beyond ±0.005" in far.reason
    assert far.difference is not None
    assert far.difference.mean == pytest.approx(0.02, abs=0.001)
    near = only(BASE, runs(list(0.9053 + NOISE[8:16])))
    assert near.relation is Relation.DIFFERS
    assert "perhaps by no more than 0.005" in near.reason


def test_different_seeds_are_compared_by_welch() -> None:
    x, y = 0.9 + NOISE[:8], 0.92 + 3 * NOISE[8:14]
    one = only(runs(list(x)), runs(list(y), first_seed=100))
    expected = stats.ttest_ind(y, x, equal_var=False)
    assert one.difference is not None
    assert one.difference.how == "Welch, 6 and 8 runs"
    assert one.difference.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert one.difference.p == pytest.approx(expected.pvalue)
    # A few seeds in common among many others do not throw the others away.
    mixed = only(runs(list(x)), runs(list(0.9 + NOISE[8:16]), first_seed=5))
    assert mixed.difference is not None
    assert mixed.difference.how == "Welch, 8 and 8 runs"


def test_undecided_comparisons_state_the_number_of_further_runs() -> None:
    one = only(runs([0.90, 0.92, 0.91, 0.89]), runs([0.91, 0.90, 0.93, 0.89], first_seed=10))
    assert one.relation is Relation.UNDECIDED
    assert one.more_runs is not None
    assert f"about {one.more_runs} more runs on each side would decide it" in one.reason
    single = only(runs([0.9]), runs([0.9, 0.91]))
    assert (single.relation, single.more_runs) == (Relation.UNDECIDED, 1)
    assert "1 run with this figure on one side" in single.reason


def test_the_stated_number_of_further_runs_has_the_stated_power() -> None:
    """Simulated for pairs that differ by 0.002 with a standard deviation of 0.005."""
    gap = Difference(0.002, 0, 0, 0.5, "", 0.005 / 6**0.5, 5.0, 6)
    more = more_runs(gap, 6, 0.005, 0.05, 1)
    assert more is not None
    generator, n = np.random.default_rng(1), 6 + more
    draws = generator.normal(0.002, 0.005, (4000, n))
    error = draws.std(axis=1, ddof=1) / n**0.5
    inside = (0.005 - np.abs(draws.mean(axis=1))) / error > stats.t.isf(0.05, n - 1)
    assert 0.74 < inside.mean() < 0.86
    unpaired = more_runs(gap._replace(pairs=0), 6, 0.005, 0.05, 1)
    assert unpaired is not None
    assert unpaired <= more
    assert more_runs(gap._replace(mean=0.005, error=10.0), 6, 0.005, 0.05, 1) is None


def test_different_numbers_of_diverged_runs_differ() -> None:
    some = only(BASE, runs([*(0.9 + NOISE[8:15]), None]))
    assert some.relation is Relation.SAME
    assert "0 of 8 runs of A diverged, 1 of 8 of B" in some.reason
    most = only(BASE, runs([0.9, 0.901, *[None] * 6]))
    assert most.relation is Relation.DIFFERS
    expected = stats.fisher_exact([[0, 8], [6, 2]]).pvalue
    assert f"p {3 * expected:.2g} (Fisher, Holm)" in most.reason
    assert (most.b.runs, most.b.diverged) == (8, 6) if most.b else False
    every = only(BASE, runs([None] * 8))
    assert every.relation is Relation.DIFFERS
    assert every.difference is None
    assert only(BASE[:2], runs([None, None])).relation is Relation.UNDECIDED
    with pytest.raises(UserError, match="all 2 runs of A diverged, and all 3 of B"):
        compare(runs([None] * 2), runs([None] * 3))


def test_divergence_is_tested_once_per_arm() -> None:
    one, *_ = compare(
        BASE, runs([*(0.9 + NOISE[8:15]), None]), metrics=["test_accuracy", "running_loss"]
    )
    assert one.p is not None
    assert one.adjusted == pytest.approx(min(1.0, 3 * one.p), rel=0.5)


def test_holm_agrees_with_a_worked_example() -> None:
    """Holm 1979: 0.01, 0.04, 0.03, 0.005 of four become 0.03, 0.06, 0.06, 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([None, 0.5, None]) == [None, 0.5, None]


def test_p_values_are_adjusted_for_the_number_of_rows() -> None:
    shifted = list(0.9 + NOISE[:8] + 0.004 + 3 * NOISE[8:16])
    alone = only(BASE, runs(shifted), margin=0.0001)
    assert alone.relation is Relation.DIFFERS
    arms = [f"arm {n}" for n in range(20)]
    a = [run for arm in arms for run in runs(list(0.9 + NOISE[:8]), arm)]
    b = [
        run
        for n, arm in enumerate(arms)
        for run in runs(shifted if n == 0 else list(0.9 + np.roll(NOISE[:8], 3)), arm)
    ]
    first, *_ = compare(a, b, margin=0.0001)
    assert first.p is not None
    assert alone.p is not None
    assert first.p < 0.05
    assert first.relation is Relation.UNDECIDED


def test_figures_of_one_side_are_left_out_with_a_reason() -> None:
    a = [*BASE, *runs([0.5] * 3, "bn+bn"), *runs([0.5] * 3, "standard+bn")]
    b = [
        *runs(list(0.9 + NOISE[8:16])),
        *runs([0.5] * 3, "standard+bn", protocol="another"),
        *runs([0.5] * 3, "more"),
    ]
    found = {one.key.arm: one for one in compare(a, b)}
    assert found["dropout"].relation is Relation.SAME
    assert "only A has" in found["bn+bn"].reason
    assert "only B has" in found["more"].reason
    assert "another protocol" in found["standard+bn"].reason
    assert {one.relation for name, one in found.items() if name != "dropout"} == {Relation.LEFT_OUT}


def test_sets_without_common_runs_raise() -> None:
    with pytest.raises(
        UserError, match="nothing in common: regularization/lenet5-tanh/dropout.*only A has"
    ):
        compare(BASE, runs([0.9] * 3, "bn+bn"))
    with pytest.raises(UserError, match="another protocol"):
        compare(BASE, runs([0.9] * 3, protocol="q"))
    with pytest.raises(UserError, match="the same runs"):
        compare(BASE, BASE)
    with pytest.raises(
        UserError, match="no run has a metric 'test_acuracy' .did you mean \"test_accuracy\""
    ):
        compare(BASE, runs([0.9] * 3), metrics=["test_acuracy"])
    with pytest.raises(UserError, match="B has no runs"):
        compare(BASE, [])


def test_each_engine_is_compared_with_one_engine() -> None:
    """The only engine of A is compared with the only one of B; several each with itself."""
    numpy, torch = BASE, runs(list(0.9 + NOISE[8:16]), engine="torch")
    one = only(numpy, torch)
    assert (one.a.engine, one.b.engine) == ("numpy", "torch") if one.a and one.b else False
    again = [*runs(list(0.9 + NOISE[16:24])), *runs(list(0.9 + NOISE[24:32]), engine="torch")]
    found = compare([*numpy, *torch], again)
    assert [(one.a.engine, one.b.engine) for one in found if one.a and one.b] == [
        ("numpy",) * 2,
        ("torch",) * 2,
    ]
    stray = [one for one in compare(numpy, again) if one.relation is Relation.LEFT_OUT]
    assert [one.reason for one in stray] == ["only B has runs of torch"]
    cuda = only(numpy, runs(list(0.9 + NOISE[8:16]), device="cuda"))
    assert cuda.b is not None
    assert cuda.b.engine == "numpy (cuda)"
    with pytest.raises(UserError, match="A has runs of numpy, torch, B of keras: select one"):
        compare([*numpy, *torch], runs([0.9] * 3, engine="keras"))


def test_user_trainings_are_compared_by_all_common_figures() -> None:
    def train(shift: float, **more: float) -> Callable[[int], dict[str, float]]:
        return lambda seed: {
            "score": 0.5 + shift + NOISE[seed],
            "error": 3.0 + NOISE[seed + 1],
            **more,
        }

    a = [train_once(train(0.0, old=1.0), seed, "mine") for seed in range(6)]
    b = [train_once(train(0.1 + 0.01 * seed), seed, "mine") for seed in range(6)]
    found = {one.metric: one.relation for one in compare(a, b)}
    assert found == {"score": Relation.DIFFERS, "error": Relation.SAME}
    lost = [train_once(lambda _: float("nan"), seed, "mine") for seed in range(6)]
    assert {one.metric: one.relation for one in compare(a, lost)} == dict.fromkeys(
        ("score", "error", "old"), Relation.DIFFERS
    )


def test_identical_figures() -> None:
    """Three equal pairs are SAME, two are UNDECIDED. Constant figures say nothing about pairs; a
    constant difference of figures that vary has the p-value of its signs."""
    again = [replace(run, seconds=2.0) for run in BASE]
    assert only(BASE, again).relation is Relation.SAME
    assert only(runs([0.5] * 3), runs([0.5] * 3, seconds=2.0)).relation is Relation.SAME
    assert only(runs([0.5] * 2), runs([0.5] * 2, seconds=2.0)).relation is Relation.UNDECIDED
    three, eight = (only(runs([0.5] * n), runs([0.75] * n)) for n in (3, 8))
    assert three.relation is Relation.UNDECIDED
    assert three.p == pytest.approx(2 / 20)
    assert eight.relation is Relation.DIFFERS
    assert eight.p == pytest.approx(2 / 12870)
    moved = only(BASE, runs(list(0.95 + NOISE[:8])))
    assert moved.p == pytest.approx(2 / 2**8)
    apart = only(runs([0.5] * 4), runs([0.75] * 4, first_seed=50))
    assert apart.p == pytest.approx(2 / 70)


Distribution = Callable[[np.random.Generator, int], np.ndarray]
DISTRIBUTIONS: dict[str, Distribution] = {
    "normal": lambda g, n: g.normal(0.9, 0.01, n),
    "skewed": lambda g, n: 0.95 - 0.02 * g.gamma(0.5, 1.0, n),
    "discrete": lambda g, n: np.round(g.normal(0.9, 0.4 / 360, n) * 360) / 360,
    "two values": lambda g, n: 0.9 + 0.05 * (g.random(n) < 0.5),
    "heavy-tailed": lambda g, n: 0.9 + 0.005 * g.standard_t(2, n),
    "a fifth collapse": lambda g, n: np.where(g.random(n) < 0.2, 0.1, g.normal(0.9, 0.01, n)),
}


def differs(
    distribution: Distribution,
    n: int,
    m: int,
    paired: bool,
    trials: int,
    alpha: float = 0.05,
    seed: int = 0,
) -> int:
    """Return the number of comparisons of two sets from one distribution that are DIFFERS.

    The figures of pairs have a correlation of 0.7.
    """
    generator, found = np.random.default_rng(seed), 0
    for _ in range(trials):
        x, y = distribution(generator, n), distribution(generator, m)
        if paired:
            y = np.where(generator.random(n) < 0.7, x, y)
        a = runs(list(x))
        b = runs(list(y), first_seed=0 if paired else 500, seconds=2.0)
        found += only(a, b, margin=1e-9, alpha=alpha).relation is Relation.DIFFERS
    return found


PAIRED = pytest.mark.rotates("false differences of pairs", 1)
UNPAIRED = pytest.mark.rotates("false differences of other runs", 1)
SIZES = ((5, 5), (10, 10), (20, 20), (5, 20))


@pytest.mark.parametrize(
    ("n", "m", "paired"),
    [
        *(pytest.param(n, n, True, marks=PAIRED) for n in (5, 10, 20)),
        *(pytest.param(n, m, False, marks=UNPAIRED) for n, m in SIZES),
    ],
)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_false_differences_are_at_most_as_frequent_as_stated(
    distribution: str, n: int, m: int, paired: bool
) -> None:
    """Of 200 comparisons at 5%, more than 24 differ with a probability of 1 in 20,000."""
    assert stats.binom.sf(24, 200, 0.05) < 5e-5
    assert differs(DISTRIBUTIONS[distribution], n, m, paired, 200) <= 24


def test_false_equivalences_are_at_most_as_frequent_as_stated() -> None:
    """SAME requires this p-value below alpha, and equal tails."""
    generator, found = np.random.default_rng(4), 0
    for _ in range(400):
        a, b = (runs(list(generator.normal(mean, 0.004, 10))) for mean in (0.9, 0.905))
        found += difference(b, a, "test_accuracy").within(0.005) < 0.05
    assert stats.binom.sf(38, 400, 0.05) < 1e-3
    assert found <= 38


def write(path: Path, results: Sequence[Result]) -> str:
    for result in results:
        append(path, result)
    return str(path)


def test_compare_command_selects_runs_and_exits_as_documented(
    tmp_path: Path,
) -> None:
    both = write(tmp_path / "runs.jsonl", [*BASE, *runs(list(0.9 + NOISE[8:16]), engine="torch")])
    far = write(tmp_path / "far@home.jsonl", runs(list(0.95 + NOISE[8:16]), engine="torch"))
    few = write(tmp_path / "few.jsonl", runs([0.9, 0.93, 0.88], engine="torch"))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["compare", *arguments])

    same = run(f"{both}@engine=numpy", f"{both}@engine=torch,tier=quick,study=regularization")
    assert (same.exit_code, "SAME" in same.output) == (0, True)
    assert run(f"{both}@engine=numpy", far).exit_code == 1
    assert run(f"{both}@engine=numpy", few).exit_code == 3
    assert run(f"{both}@engine=numpy", f"{both}@engine=torch", "--margin", "0.0001").exit_code == 3
    printed = json.loads(run(f"{both}@engine=numpy", f"{far}@engine=torch", "--json").output)
    (one,) = printed["comparisons"]
    assert (one["verdict"], one["a"]["engine"], one["b"]["runs"]) == ("DIFFERS", "numpy", 8)
    assert printed["all_arms"] == []
    every, worse = (
        write(tmp_path / f"{name}.jsonl", arms_of(shift, name, seed))
        for name, shift, seed in (("numpy", 0.0, 0), ("torch", -0.7, 100))
    )
    together = run(every, worse, "--margin", "0.0001")
    assert (together.exit_code, "is worse as a whole" in " ".join(together.stderr.split())) == (
        1,
        True,
    )
    (found,) = json.loads(run(every, worse, "--json").output)["all_arms"]
    assert (found["differs"], found["arms"]) == (True, 10)
    for target, said in (
        (f"{both}@engine=keras", "no runs of engine 'keras' .*; there are numpy, torch"),
        (f"{both}@engin=torch", 'did you mean "engine"'),
        ("nothing.jsonl", "no file 'nothing.jsonl'"),
    ):
        refused = run(target, far)
        assert refused.exit_code == 2
        assert re.search(said, refused.stderr)
    left = run(both, far)
    assert (
        "left out: regularization/lenet5-tanh/dropout/digits/quick: only A has runs of numpy"
        in left.output
    )


def test_comparison_table_contains_the_evidence() -> None:
    found = compare(
        [*BASE, *runs([0.9], "bn+bn")], [*runs(list(0.92 + NOISE[8:16])), *runs([None], "bn+bn")]
    )
    text = comparison_table(found).markdown()
    for part in (
        "DIFFERS",
        "UNDECIDED",
        "8 numpy",
        " ± ",
        "+0.0",
        "Welch, 8 and 8 runs",
        "1 of 1 of B",
    ):
        assert part in text, part
