"""The design of a gate: its levels, its power, and the simulated power of the gate itself."""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlsys_bench.errors import UserError
from dlsys_bench.verdicts.budget import SHIFT_SHARE
from dlsys_bench.verdicts.design import Design
from dlsys_bench.verdicts.ranks import smallest_p_value
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.verdict import Outcome


@given(
    stored=st.integers(1, 60),
    alpha=st.sampled_from([0.05, 1e-3, 1e-5]),
    seeds=st.integers(1, 40),
    side=st.sampled_from(["both", "drop", "rise"]),
)
def test_levels_add_up_to_at_most_alpha(stored: int, alpha: float, seeds: int, side: str) -> None:
    design = Design.of(stored, alpha, 0.01, seeds, side)
    sides = 2 if side == "both" else 1
    assert design.seeds == seeds
    assert list(design.looks) == sorted(set(design.looks))
    assert sum(design.fail_levels.values()) * sides <= SHIFT_SHARE * alpha * (1 + 1e-12)
    assert sum(design.pass_levels.values()) <= 0.01
    for levels in (design.fail_levels, design.pass_levels):
        assert all(
            level >= smallest_p_value(stored, look) * (1 - 1e-12) for look, level in levels.items()
        )


def test_levels_agree_with_a_worked_example() -> None:
    # 20 stored: C(25, 5) = 53,130 and 2 / 53,130 = 3.8e-5 is under an equal third of three quarters
    # of 1e-3, C(23, 3) = 1,771 is not.
    design = Design.of(20)
    assert design.looks == (2, 3, 5, 8, 12)
    assert design.fail_levels == pytest.approx(dict.fromkeys((5, 8, 12), 0.75e-3 / 6))
    # Of beta two thirds: the first look takes what its farthest outcome does, the others part the
    # rest.
    left = 0.02 / 3 - 1 / 231
    assert design.pass_levels == pytest.approx(
        {2: 1 / 231} | dict.fromkeys((3, 5, 8, 12), left / 4)
    )


def test_minimum_detectable_effect_decreases_with_runs_seeds_and_alpha() -> None:
    seen = Design.of(20).smallest_shift
    assert Design.of(10).smallest_shift > seen > Design.of(40).smallest_shift
    assert (
        Design.of(20, max_seeds=8).smallest_shift
        > seen
        > Design.of(20, max_seeds=18).smallest_shift
    )
    assert (
        Design.of(20, alpha=1e-5).smallest_shift > seen > Design.of(20, alpha=0.05).smallest_shift
    )
    assert Design.of(20, side="drop").smallest_shift < seen
    assert Design.of(20, beta=0.1).smallest_shift < seen


def test_too_few_reference_runs_detect_nothing() -> None:
    assert Design.of(3).fail_levels == {}
    assert Design.of(3).smallest_shift == inf
    assert Design.of(3).fixed_seeds(2.0) is None


ONE_SIDED = pytest.mark.rotates("power of a one-sided gate", 1)


@pytest.mark.parametrize(
    "side",
    ["both", pytest.param("drop", marks=ONE_SIDED), pytest.param("rise", marks=ONE_SIDED)],
)
def test_minimum_detectable_effect_has_the_stated_power(side: str) -> None:
    """Simulated with the gate itself: 1,000 draws of reference runs and new runs."""
    design, generator, gates = Design.of(12, beta=0.05, side=side), np.random.default_rng(99), 1000
    way = 1 if side == "rise" else -1
    outcomes, used = [], []
    for _ in range(gates):
        stored = generator.normal(size=12)
        new = iter(
            generator.normal(way * design.smallest_shift * stored.std(ddof=1), 1.0, design.seeds)
        )
        gate = SequentialGate(stored.tolist(), beta=0.05, side=side)
        decision = gate.run(lambda seed, new=new: float(next(new)))  # type: ignore[misc]
        outcomes.append(decision.outcome)
        used.append(len(decision.values))
    found = outcomes.count(Outcome.FAIL) / gates
    assert found >= 0.95 - 3 * sqrt(0.05 * 0.95 / gates)
    assert outcomes.count(Outcome.PASS) / gates <= 0.05
    # What was simulated is what happens.
    said = design.operating(design.smallest_shift, design.smallest_shift)
    assert found == pytest.approx(said.failed, abs=0.02)
    assert np.mean(used) == pytest.approx(said.mean_seeds, abs=0.3)


def test_detecting_returns_the_shortest_design() -> None:
    found = Design.detecting(3.33, 20)
    assert found is not None
    assert found.detects(3.33)
    assert not replace(found, looks=found.looks[:-1]).detects(3.33)
    assert Design.detecting(0.1, 20) is None


def test_median_number_of_seeds_for_a_realistic_shift() -> None:
    """A standard deviation of 0.15 points and a shift of half a point, at alpha 1e-3 and beta
    1e-2."""
    shift = 0.5 / 0.15
    for stored in (10, 20):
        design = Design.detecting(shift, stored)
        assert design is not None
        assert design.operating(shift).median_seeds <= 4
        assert design.operating(shift).passed >= 0.99
    fixed = Design.of(20).fixed_seeds(shift)
    assert fixed is not None
    assert fixed > 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((20, 0.0), "alpha is 0.0; expected a probability between 0 and 1"),
        ((20, 0.1, 1.0), "beta is 1.0;"),
        ((0,), "0 reference runs and max_seeds 12"),
        ((20, 0.1, 0.1, 0), "20 reference runs and max_seeds 0"),
        ((20, 0.1, 0.1, 5, "drops"), r'side is \'drops\' \(did you mean "drop"\?\)'),
    ],
)
def test_invalid_designs_raise(arguments: tuple[float, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Design.of(*arguments)  # type: ignore[arg-type]


@settings(max_examples=20)
@given(stored=st.integers(5, 30), shift=st.floats(2.0, 8.0))
def test_power_increases_with_the_shift(stored: int, shift: float) -> None:
    design = Design.of(stored, alpha=0.01)
    assert design.operating(shift, shift + 1).failed >= design.operating(shift, shift).failed - 1e-3
    assert design.operating(shift, 0.0).passed >= design.operating(shift, shift).passed
