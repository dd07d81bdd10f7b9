"""The verdict over all arms of a session: exact, and sensitive to what all arms share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from math import inf, nan

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dlsys_bench.runs.callables import stored_figures
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.budget import SESSION_SHARE
from dlsys_bench.verdicts.common_shift import detected_shift
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.session import SessionVerdict, judge_session, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Outcome

BETA = 1e-2


def stratum_of(
    reference: Sequence[float],
    new: Sequence[float],
    higher_is_better: bool = True,
    seeds: Sequence[int] = (),
) -> Stratum:
    """Return the stratum of these figures."""
    return Stratum.of(JudgedRuns.of(reference, new, higher_is_better), seeds)


def judged(
    generator: np.random.Generator,
    *,
    arms: int,
    stored: int,
    new: int,
    drop: float = 0.0,
    alpha: float = 1e-3,
) -> SessionVerdict:
    """Judge normal figures, of which the new ones are lower."""
    figures = generator.standard_normal((arms, stored + new))
    figures[:, stored:] -= drop
    strata = [stratum_of(each[:stored], each[stored:]) for each in figures.tolist()]
    return judge_session(strata, alpha, BETA)


def test_the_p_value_is_that_of_all_choices_of_new_runs() -> None:
    # Ties and arms of different sizes.
    figures = ([1.0, 2.0, 2.0, 3.0, 5.0], [0.5, 0.5, 0.7, 0.1])
    sizes = (3, 3)
    strata = [stratum_of(each[:n], each[n:]) for each, n in zip(figures, sizes, strict=True)]

    def statistic(chosen: tuple[tuple[int, ...], ...]) -> float:
        total = 0.0
        for stratum, new in zip(strata, chosen, strict=True):
            excess = sum(stratum.ranks[i] for i in new) - len(new) * (len(stratum.ranks) + 1)
            total += stratum.weight * excess
        return total

    choices = [
        list(combinations(range(len(each)), len(each) - n))
        for each, n in zip(figures, sizes, strict=True)
    ]
    every = np.array([statistic(chosen) for chosen in product(*choices)])
    observed = statistic(
        tuple(tuple(range(n, len(f))) for f, n in zip(figures, sizes, strict=True))
    )
    low, high = np.mean(every <= observed + 1e-9), np.mean(every >= observed - 1e-9)
    assert judge_session(strata, 1e-3, BETA).p_value == pytest.approx(min(1.0, 2 * min(low, high)))


@pytest.mark.rotates("false alarms of a session", 1)
@pytest.mark.parametrize("figures", ["normal", "discrete", "collapsing"])
def test_healthy_sessions_fail_at_the_stated_rate(figures: str) -> None:
    generator, alpha, sessions, failed = np.random.default_rng(0), 0.05, 150, 0

    def draw(size: int) -> list[float]:
        if figures == "discrete":
            return [float(value) for value in generator.integers(0, 4, size)]
        values = generator.standard_normal(size)
        if figures == "collapsing":
            values[generator.random(size) < 1 / 12] = -inf
        return [float(value) for value in values]

    for _ in range(sessions):
        strata = [stratum_of(draw(8), draw(2)) for _ in range(6)]
        failed += judge_session(strata, alpha, BETA).outcome is Outcome.FAIL
    # Exceeded with a probability of 1e-4 at a rate of 0.05.
    assert failed <= 19


def test_a_drop_that_no_gate_sees_is_found_in_all_arms_together() -> None:
    generator = np.random.default_rng(1)
    found = [judged(generator, arms=20, stored=20, new=2, drop=1.0) for _ in range(40)]
    failed = sum(one.outcome is Outcome.FAIL for one in found)
    # 98% of such sessions fail (20,000 simulated); fewer than 34 of 40 have a probability of 1e-6.
    assert failed >= 34
    assert all(one.shift < 0 for one in found)
    assert np.mean([one.shift for one in found]) == pytest.approx(-0.93, abs=0.15)
    assert found[0].smallest_shift == pytest.approx(1.016, abs=0.005)


def test_a_metric_that_is_better_lower_is_turned_round() -> None:
    lower = stratum_of([1.0, 2.0, 3.0], [9.0], False)
    higher = stratum_of([-1.0, -2.0, -3.0], [-9.0])
    assert lower == higher
    assert Stratum.from_dict(lower.to_dict()) == lower


@pytest.mark.parametrize("value", [-inf, nan])
def test_a_run_that_diverged_is_the_worst(value: float) -> None:
    assert stratum_of([1.0, 2.0], [value]).ranks == (4, 6, 2)


def test_too_few_runs_are_inconclusive() -> None:
    strata = [stratum_of([1.0, 2.0, 3.0], [0.0])] * 2
    verdict = judge_session(strata, 1e-3, BETA)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "too few new seeds to judge the arms together" in verdict.message()


def sweep(generator: np.random.Generator, drop: float, seeds: range) -> list[tuple[Key, Stratum]]:
    """Return two studies of eight arms each, whose figures at equal seeds have a correlation of
    0.8."""
    found = []
    for study in ("sweep", "other"):
        common = generator.standard_normal(20 + len(seeds))
        for arm in range(8):
            figures = 2 * common + generator.standard_normal(len(common))
            figures[20:] -= drop
            stratum = stratum_of(
                figures[:20].tolist(), figures[20:].tolist(), True, seeds=[*range(20), *seeds]
            )
            found.append((Key(study, str(arm), "digits", "quick", "numpy"), stratum))
    return found


def test_arms_of_a_study_that_share_seeds_fail_at_the_stated_rate() -> None:
    """As independent strata, these arms would fail in half of the sessions.

    Of 60 sessions at 5%, more than 11 fail with a probability of 4e-5.
    """
    assert stats.binom.sf(11, 60, 0.05) < 5e-5
    generator, failed, apart = np.random.default_rng(2), 0, 0
    for number in range(60):
        strata = sweep(generator, 0.0, range(100, 102))
        (verdict,) = judge_sessions(strata, 0.05 / SESSION_SHARE, BETA)
        failed += verdict.outcome is Outcome.FAIL
        if number < 12:
            alone = judge_session([stratum for _, stratum in strata], 0.05, BETA)
            apart += alone.outcome is Outcome.FAIL
    assert failed <= 11
    assert apart > 3


def test_arms_of_a_study_are_one_stratum_of_seeds() -> None:
    strata = [
        stratum_of([1.0, 2.0, 3.0], [4.0, 0.5], True, seeds=(0, 1, 2, 7, 8)),
        # Another order, one more reference run, and one more new run.
        stratum_of([3.0, 1.0, 2.0, 9.0], [4.0, 0.5, 8.0], True, seeds=(2, 0, 1, 3, 7, 8, 9)),
    ]
    (one,) = Stratum.together(strata)
    assert (one.stored, one.seeds) == (3, (0, 1, 2, 7, 8))
    assert one.ranks == (4, 6, 8, 10, 2)
    assert Stratum.from_dict(one.to_dict()) == one
    apart = [strata[0], stratum_of([1.0, 2.0], [3.0], True, seeds=(10, 11, 12))]
    assert Stratum.together(apart) == apart
    # Of arms that may depend on each other in a way that is unknown, one counts.
    unknown = [stratum_of([1.0, 2.0], [3.0])] * 2
    assert Stratum.together(unknown) == unknown[:1]
    other_new_seeds = stratum_of([1.0, 2.0, 3.0], [4.0, 0.5], True, seeds=(0, 1, 2, 5, 6))
    assert Stratum.together([strata[0], other_new_seeds]) == strata[:1]


def test_what_may_share_seeds_is_one_stratum() -> None:
    """Of two studies on one dataset, of one study on two, and of a user's own trainings, the arms
    have a correlation of 0.8: as independent strata, every second session would fail."""
    generator = np.random.default_rng(2)
    keys = {
        "one dataset": [Key(f"study {n}", "arm", "digits", "quick", "numpy") for n in range(16)],
        "one study": [Key("study", "arm", f"data {n}", "quick", "numpy") for n in range(16)],
        "trainings": [Key(f"module:train_{n}", engine="callable") for n in range(16)],
        "a chain": [
            Key(f"study {n // 2}", "arm", f"data {(n + 1) // 2}", "quick", "numpy")
            for n in range(16)
        ],
    }
    for found in keys.values():
        common = generator.standard_normal(22)
        strata = []
        for key in found:
            figures = (2 * common + generator.standard_normal(22)).tolist()
            stratum = stratum_of(figures[:20], figures[20:], True, seeds=range(100, 122))
            strata.append((key, stratum))
        (verdict,) = judge_sessions(strata, 1e-3, BETA)
        # No outcome of two new seeds among 20 has so small a p-value.
        assert (verdict.outcome, verdict.arms) == (Outcome.INCONCLUSIVE, 16)


@pytest.mark.parametrize(
    ("strata", "stored", "new"), [(20, 20, 2), (4, 20, 2), (1, 20, 5)], ids=str
)
def test_the_common_shift_of_a_verdict_is_detected_as_often_as_it_says(
    strata: int, stored: int, new: int
) -> None:
    """The ranks are those of scipy, and the critical value is that of simulated healthy runs."""
    generator, level, sessions = np.random.default_rng(7), 0.02, 1_000
    shift = detected_shift(((stored, new),) * strata, level, BETA)
    assert shift is not None

    def statistics(count: int, drop: float) -> NDArray[np.float64]:
        figures = generator.standard_normal((count, strata, stored + new))
        figures[..., stored:] -= drop
        return np.asarray(stats.rankdata(figures, axis=-1)[..., stored:].sum((1, 2)))

    healthy = np.sort(statistics(4_000, 0.0))
    # The highest sum that healthy sessions reach in at most a fraction `level`.
    critical = healthy[int(level * len(healthy))] - 1
    found, fewer = (
        int((statistics(sessions, part * shift) <= critical).sum()) for part in (1.0, 0.8)
    )
    # At a power of 0.99, fewer have a probability of 1e-4.
    assert found >= stats.binom.ppf(1e-4, sessions, 0.99)
    assert fewer < 0.98 * sessions


def test_a_drop_in_correlated_arms_is_reported_for_all_of_them() -> None:
    (found,) = judge_sessions(sweep(np.random.default_rng(3), 6.0, range(100, 105)), 1e-3, BETA)
    assert (found.outcome, found.arms, found.runs) == (Outcome.FAIL, 16, 80)
    assert found.shift < -1


def test_engines_share_the_rate_and_an_arm_counts_once() -> None:
    stratum = stratum_of([float(value) for value in range(20)], [-1.0, -2.0])
    arms = [Key(f"study {n}", "arm", f"data {n}", engine="numpy") for n in range(10)]
    other = [replace(key, engine="torch") for key in arms[:2]]
    alone = [replace(arms[0], engine="jax")]
    found = judge_sessions([(key, stratum) for key in (*arms, *arms, *other, *alone)], 1e-3, BETA)
    assert [(one.engine, one.arms, one.runs) for one in found] == [
        ("numpy", 10, 20),
        ("torch", 2, 4),
    ]
    # A quarter of the rate, over two engines.
    assert {one.alpha for one in found} == {1.25e-4}
    assert found[0].outcome is Outcome.FAIL
    assert "the runs are worse than the reference runs as a whole" in found[0].message()


@pytest.mark.parametrize("side", ["both", "drop", "rise"])
def test_the_worse_direction_of_a_gate_with_one_side_has_the_lowest_ranks(side: str) -> None:
    stored = stored_figures([0.9 + 0.001 * number for number in range(20)])
    verdict = gate_training(
        lambda seed: 0.9 + 0.001 * (seed % 17), stored, terms=Terms(side=side), name="mine:train"
    )
    assert verdict.stratum is not None
    assert verdict.stratum.one_sided == (side != "both")
    higher = stratum_of(verdict.stratum.ranks[:20], verdict.stratum.ranks[20:])
    assert higher.ranks == verdict.stratum.ranks
    low = 0.9 if side != "rise" else 0.919
    assert verdict.stratum.ranks[[run.figures["metric"] for run in stored].index(low)] == 2
