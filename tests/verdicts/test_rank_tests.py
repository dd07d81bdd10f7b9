"""The tests of the tail and of the spread: exact with ties, and no PASS over a collapsed run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import inf, nan

import numpy as np
import pytest

from dlsys_bench.runs.callables import train_once
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.rank_tests import (
    beyond_all,
    spread_p_value,
    tail_p_value,
    tail_probabilities,
)
from dlsys_bench.verdicts.ranks import doubled_ranks
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.session import judge_session
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Outcome

MANY = np.random.default_rng(7).normal(0.95, 0.004, 50).round(4).tolist()
STORED = MANY[:20]

PValue = Callable[[np.ndarray, int], float]
TESTS: dict[str, PValue] = {
    "lower tail": lambda r, n: tail_p_value(n, len(r) - n, beyond_all(r, n, -1)),
    "upper tail": lambda r, n: tail_p_value(n, len(r) - n, beyond_all(r, n, 1)),
    "spread": lambda r, n: spread_p_value(r, n, (-1, 1)),
    "spread below": lambda r, n: spread_p_value(r, n, (-1,)),
}
FIGURES = {
    "no ties": [0.3, 1.2, 1.9, 2.2, 3.1, 4.6, 5.5, 6.0, 9.0],
    "ties": [1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0],
    "collapsed": [-inf, -inf, 0.1, 0.1, 0.9, 0.9, 0.92, 0.93, 0.95],
}


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("figures", FIGURES)
@pytest.mark.parametrize("new", [2, 4, 6])
def test_no_p_value_occurs_more_often_than_it_states(test: str, figures: str, new: int) -> None:
    """Over every choice of the new runs among all runs."""
    values, p_values = FIGURES[figures], []
    for chosen in combinations(range(len(values)), new):
        stored = [value for place, value in enumerate(values) if place not in chosen]
        ranks = doubled_ranks(np.array([*stored, *(values[place] for place in chosen)]))
        p_values.append(TESTS[test](ranks, len(stored)))
    for level in set(p_values):
        share = float(np.mean([p <= level * (1 + 1e-9) for p in p_values]))
        assert share <= level * (1 + 1e-9)
        # Without ties and with both sides, each p-value is exactly that share; scores of the new
        # runs below their mean on both sides have the p-value 1.
        if figures == "no ties" and test != "spread below" and level < 0.5:
            assert share == pytest.approx(level)


def test_the_probabilities_of_the_tail_sum_to_one() -> None:
    probabilities = tail_probabilities(20, 12)
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[4:].sum() == pytest.approx(tail_p_value(20, 12, 4))


def decide(gate: SequentialGate, values: list[float]) -> tuple[Outcome, int, str]:
    found = gate.run(lambda seed: values[seed - 10_000])
    return found.outcome, len(found.values), found.reason


@pytest.mark.parametrize("side", ["both", "drop", "rise"])
@pytest.mark.parametrize("collapsed", [1, 2, 4])
def test_a_collapsed_run_never_passes(side: str, collapsed: int) -> None:
    """Whichever of the runs collapses, and whichever direction is the worse one."""
    far = 2.0 if side == "rise" else 0.1
    for first in range(3):
        values = [*MANY[20:32]]
        for place in range(first, 12, 4)[:collapsed]:
            values[place] = far
        if far in values[:2]:  # Runs after the last look of a gate that passes are not trained.
            outcome, seeds, reason = decide(SequentialGate(STORED, side=side), values)
            assert (outcome, seeds) == (Outcome.INCONCLUSIVE, 12)
            assert "may have collapsed, which prevents a PASS" in reason
    assert decide(SequentialGate(STORED, side=side), MANY[20:32])[0] is Outcome.PASS


def test_a_run_that_is_lower_by_less_than_the_smallest_shift_may_pass() -> None:
    gate = SequentialGate(STORED, smallest_shift=0.02, side="drop")
    low = min(STORED) - 0.019
    assert decide(gate, [low, *MANY[20:31]])[0] is Outcome.PASS
    assert decide(gate, [low - 0.002, *MANY[20:31]])[0] is not Outcome.PASS


def test_a_reference_run_that_collapsed_allows_others_that_do() -> None:
    gate = SequentialGate([*STORED[:19], 0.1], smallest_shift=0.02)
    assert decide(gate, [*MANY[20:23], 0.1, *MANY[23:31]])[0] is Outcome.PASS


def test_the_collapsed_seeds_are_named() -> None:
    stored = [train_once(lambda seed: STORED[seed], seed, "t") for seed in range(20)]

    def train(seed: int) -> float:
        return 0.1 if seed % 6 == 4 else MANY[20 + seed % 12]

    found = gate_training(train, stored, terms=Terms(side="drop"), name="t")
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "(12 seeds; seed 10000: 0.1000; seed 10006: 0.1000): undecided" in found.reason
    assert "2 runs below every reference run by more than the smallest shift" in found.reason


@pytest.mark.parametrize("side", ["both", "drop"])
def test_a_fraction_of_collapsed_runs_fails_if_there_are_enough(side: str) -> None:
    values = [*MANY[20:26], *[0.1] * 6]
    np.random.default_rng(0).shuffle(values)
    reference = np.random.default_rng(3).normal(0.95, 0.004, 60).round(4).tolist()
    gate = SequentialGate(reference, side=side)
    outcome, seeds, reason = decide(gate, values)
    assert (outcome, seeds) == (Outcome.FAIL, 12)
    assert "6 of 12 runs below every reference run, p-value 5.9e-06" in reason
    # Above every reference run is no collapse of a gate that fails downwards.
    high = [1.8 - value if value == 0.1 else value for value in values]
    assert (decide(gate, high)[0] is Outcome.FAIL) == (side == "both")


@pytest.mark.parametrize("side", ["both", "drop"])
def test_a_larger_spread_fails(side: str) -> None:
    reference = np.random.default_rng(3).normal(0.0, 1.0, 100).tolist()
    gate = SequentialGate(reference, smallest_shift=9.0, side=side)
    wide = [5.0 * (-1) ** n * (1 + 0.01 * n) for n in range(12)]
    found = gate.decide(wide)
    assert found is not None
    assert found.outcome is Outcome.FAIL
    # Six of twelve below would be a tail; three below and three above are a spread.
    mixed = [*wide[:6], 1.81, -1.82, 1.83, -1.84, 1.85, -1.86]
    found = gate.decide(mixed)
    assert found is not None
    assert found.outcome is Outcome.FAIL
    assert "a larger spread, p-value" in found.reason


def test_a_rise_is_no_larger_spread_of_a_gate_that_fails_downwards() -> None:
    reference = np.random.default_rng(3).normal(0.0, 1.0, 200).tolist()
    high = np.random.default_rng(4).normal(6.0, 1.0, 12).tolist()
    found = SequentialGate(reference, side="drop").decide(high)
    assert found is not None
    assert (found.outcome, found.beyond) == (Outcome.PASS, ())
    assert found.warning is not None
    assert "the runs are higher than the reference runs" in found.warning
    both = SequentialGate(reference).decide(high)
    assert both is not None
    assert (both.outcome, both.warning) == (Outcome.FAIL, None)


@pytest.mark.parametrize("value", [-inf, nan])
def test_a_diverged_run_is_beyond_all_but_a_diverged_one(value: float) -> None:
    gate = SequentialGate(STORED, side="drop")
    found = gate.decide([value, *MANY[20:31]])
    assert found is not None
    assert found.beyond == (0,)
    among = SequentialGate([*STORED, value], side="drop").decide([value, *MANY[20:31]])
    assert among is not None
    assert among.beyond == ()


def sessions(change: Callable[[np.ndarray, np.random.Generator], None], count: int) -> list[float]:
    """Return the p-values of the tail and of the spread in sessions of 20 arms, all changed."""
    generator, found = np.random.default_rng(2), []
    for _ in range(count):
        figures = generator.standard_normal((20, 22))
        change(figures[:, 20:], generator)
        strata = [
            Stratum.of(JudgedRuns.of(one[:20], one[20:], True, True)) for one in figures.tolist()
        ]
        verdict = judge_session(strata, 2.5e-4, 1e-2)
        found.append(float(verdict.outcome is Outcome.FAIL))
    return found


def collapse(new: np.ndarray, generator: np.random.Generator) -> None:
    new[generator.random(new.shape) < 0.25] = -20.0


def widen(new: np.ndarray, generator: np.random.Generator) -> None:
    new *= 2.5


def nothing(new: np.ndarray, generator: np.random.Generator) -> None:
    pass


def lift(new: np.ndarray, generator: np.random.Generator) -> None:
    new += 3.0


@pytest.mark.parametrize(
    ("change", "fewest", "most"),
    [(collapse, 30, 40), (widen, 30, 40), (nothing, 0, 1), (lift, 0, 0)],
)
def test_collapses_and_spread_in_all_arms_fail_a_session(
    change: Callable[[np.ndarray, np.random.Generator], None], fewest: int, most: int
) -> None:
    assert fewest <= sum(sessions(change, 40)) <= most
