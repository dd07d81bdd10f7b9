"""The sequential gate: its outcomes and their reasons."""

from __future__ import annotations

from itertools import combinations
from math import inf, nan

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.verdicts.decision import Decision
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.verdict import Outcome

STORED = np.random.default_rng(7).normal(0.95, 0.004, 20).round(4).tolist()


def run(gate: SequentialGate, mean: float, spread: float = 0.004) -> Decision:
    generator = np.random.default_rng(8)
    return gate.run(lambda seed: float(generator.normal(mean, spread)))


def test_healthy_runs_pass_early() -> None:
    found = run(SequentialGate(STORED), 0.95)
    assert found.outcome is Outcome.PASS
    assert len(found.values) <= 8
    assert "equivalent to 20 reference runs (0.9" in found.reason
    assert "either way is ruled out (beta 0.01)" in found.reason


@pytest.mark.parametrize("mean", [0.93, 0.97, 0.1])
def test_large_shifts_fail_at_the_first_possible_look(mean: float) -> None:
    found = run(SequentialGate(STORED), mean)
    assert (found.outcome, len(found.values)) == (Outcome.FAIL, 5)
    assert found.p_value == pytest.approx(1 / 53130)
    assert found.shift == pytest.approx(mean - 0.95, abs=0.006)
    assert "from a different distribution than 20 reference runs" in found.reason
    assert "p-value 1.9e-05 (alpha 1.0e-03 either way)" in found.reason


def test_one_sided_gates_pass_shifts_in_the_other_direction() -> None:
    assert run(SequentialGate(STORED, side="drop"), 0.97).outcome is Outcome.PASS
    assert run(SequentialGate(STORED, side="drop"), 0.93).outcome is Outcome.FAIL
    assert run(SequentialGate(STORED, side="rise"), 0.97).outcome is Outcome.FAIL
    assert run(SequentialGate(STORED, side="rise"), 0.93).outcome is Outcome.PASS


def test_divergence_on_the_untested_side_is_inconclusive() -> None:
    assert SequentialGate(STORED, side="drop").run(lambda seed: inf).outcome is Outcome.INCONCLUSIVE
    assert SequentialGate(STORED, side="rise").run(lambda seed: inf).outcome is Outcome.FAIL


def test_shifts_below_the_smallest_shift_pass() -> None:
    many = np.random.default_rng(1).normal(0.95, 0.004, 200).tolist()
    gate = SequentialGate(many, smallest_shift=0.1)
    assert run(gate, 0.96).outcome is Outcome.PASS
    assert run(SequentialGate(many, smallest_shift=0.01), 0.97).outcome is Outcome.FAIL


def test_intermediate_shifts_are_inconclusive() -> None:
    found = SequentialGate(STORED).run(lambda seed: 0.95 if seed % 2 else 0.94)
    assert (found.outcome, len(found.values)) == (Outcome.INCONCLUSIVE, 12)
    assert "undecided against" in found.reason


def test_too_few_reference_runs_are_inconclusive() -> None:
    few = run(SequentialGate([0.9, 0.91]), 0.9)
    assert (few.outcome, len(few.values)) == (Outcome.INCONCLUSIVE, 1)
    assert few.reason == "2 reference runs in the reference, a gate needs 3"
    blind = run(SequentialGate([0.9, 0.91, 0.92, 0.93]), 0.9)
    assert (
        "4 reference runs and at most 12 seeds are too few for a FAIL at alpha 1.0e-03"
        in blind.reason
    )


def test_new_divergence_never_passes() -> None:
    found = SequentialGate(STORED).run(lambda seed: -inf)
    assert (found.outcome, found.shift) == (Outcome.FAIL, None)
    assert "all diverged" in found.reason
    values = iter([-inf, *np.random.default_rng(3).normal(0.95, 0.003, 20)])
    once = SequentialGate(STORED).run(lambda seed: float(next(values)))
    assert once.outcome is Outcome.INCONCLUSIVE
    assert "1 of them diverged" in once.reason


def test_divergence_as_in_the_reference_does_not_fail() -> None:
    stored = [*STORED[:15], *[-inf] * 5]
    values = iter([STORED[15], STORED[16], -inf, *STORED[17:], *STORED[:9]])
    assert SequentialGate(stored).run(lambda seed: float(next(values))).outcome is not Outcome.FAIL


def test_decisions_are_made_at_looks_only() -> None:
    gate = SequentialGate(STORED)
    assert gate.decide([0.1]) is None
    assert gate.decide([0.1, 0.1, 0.1, 0.1]) is None
    assert [list(batch) for batch in gate.batches(100)][:2] == [[100, 101], [102]]


def test_equal_figures_have_the_deviation_of_their_resolution() -> None:
    gate = SequentialGate([0.95] * 20, resolution=1 / 360)
    assert gate.shift == pytest.approx(gate.design.smallest_shift / 360 / 12**0.5)
    assert gate.run(lambda seed: 0.95).outcome is Outcome.PASS
    assert gate.run(lambda seed: 0.95 - 3 / 360).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smallest_shift": 0.0}, "smallest_shift is 0.0; expected a number above 0"),
        ({"smallest_shift": "0.01"}, "smallest_shift is '0.01'; expected a number above 0"),
        ({"alpha": 2.0}, "alpha is 2"),
        ({"max_seeds": 2.5}, "max_seeds 2.5"),
        ({"max_seeds": 0}, "max_seeds 0"),
        ({"side": "left"}, "side is 'left'"),
    ],
)
def test_invalid_gates_raise(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SequentialGate(**({"reference": STORED} | options))


def test_undetectable_shifts_are_never_ruled_out() -> None:
    """The simulation cannot show so small a beta, so that the smallest shift is infinite."""
    found = SequentialGate(STORED, beta=1e-4).run(lambda seed: 0.1)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "a beta of 0.001 or more" in found.reason
    assert (
        SequentialGate(STORED, beta=1e-4, smallest_shift=0.02).run(lambda seed: 0.1).outcome
        is Outcome.FAIL
    )


def test_new_figures_are_rounded_as_stored_figures() -> None:
    stored = [float(f"{value:.7g}") for value in [2 / 3] * 20]
    assert (
        SequentialGate(stored, smallest_shift=0.01).run(lambda seed: 2 / 3).outcome
        is not Outcome.FAIL
    )
    # Figures that are known to more digits are compared in all of them.
    fine = [2 / 3 + 1e-8 * place for place in range(20)]
    assert SequentialGate(fine).run(lambda seed: 2 / 3 - 1e-6).outcome is Outcome.FAIL


def test_equal_reference_figures_are_an_obstacle() -> None:
    for value in (0.875, 0.9):
        gate = SequentialGate([value] * 20)
        assert gate.obstacle is not None
        assert "all equal" in gate.obstacle
    found = SequentialGate([0.875] * 20, smallest_shift=0.01).run(
        lambda seed: 0.875 if seed % 2 else 0.75
    )
    assert found.outcome is Outcome.INCONCLUSIVE


def test_a_huge_value_does_not_tie_the_others() -> None:
    stored = [*np.random.default_rng(0).normal(0.5, 0.01, 19).tolist(), 1e9]
    assert SequentialGate(stored, smallest_shift=0.1).run(lambda seed: 0.9).outcome is Outcome.FAIL


def test_gates_that_cannot_pass_have_an_obstacle() -> None:
    gate = SequentialGate(STORED[:5], smallest_shift=0.1, alpha=0.05, max_seeds=3, beta=1e-3)
    assert gate.obstacle is not None
    assert "are too few for a PASS at beta 0.001" in gate.obstacle
    assert "2 of 20 reference runs" in str(SequentialGate([inf] * 18 + [1.0, 2.0]).obstacle)


@pytest.mark.parametrize("stored", [7, 10, 26, 30])
def test_gates_are_symmetric(stored: int) -> None:
    values = np.random.default_rng(3).normal(0.0, 1.0, stored).tolist()
    up = SequentialGate(values, smallest_shift=12.0).run(lambda seed: 5.0 + 0.01 * (seed % 100))
    down = SequentialGate([-v for v in values], smallest_shift=12.0).run(
        lambda seed: -5.0 - 0.01 * (seed % 100)
    )
    assert (up.outcome, len(up.values), up.p_value) == (
        down.outcome,
        len(down.values),
        down.p_value,
    )


@pytest.mark.parametrize("level", [0.005, 5.0])
def test_diverged_runs_count_as_worse_in_either_direction(level: float) -> None:
    """A run that diverged must not cancel runs that are too high, nor those that are too low."""
    reference = [1.0 + 0.01 * (seed % 7) for seed in range(20)]
    found = SequentialGate(reference).run(lambda seed: nan if seed % 2 else level)
    assert found.outcome is Outcome.FAIL


def test_the_p_value_with_diverged_runs_is_exact() -> None:
    """Whichever runs are the new ones, each question is wrong at most as often as its level."""
    every = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, nan, nan]
    p_values = []
    for new in combinations(range(len(every)), 3):
        reference = [value for place, value in enumerate(every) if place not in new]
        decision = SequentialGate(reference, 0.1, 0.5, 0.4, 3).decide([every[i] for i in new])
        assert decision is not None
        assert decision.p_value is not None
        p_values.append(decision.p_value)
    for level in sorted(set(p_values)):
        assert sum(p <= level for p in p_values) <= 2 * level * len(p_values) + 1e-9
