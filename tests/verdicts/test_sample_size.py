"""A shift that cannot be detected is an error before training that states what would suffice."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import train_once
from dlsys_bench.verdicts import simulation
from dlsys_bench.verdicts.design import Design
from dlsys_bench.verdicts.figures import round_up
from dlsys_bench.verdicts.outliers import typical_std, without_outliers
from dlsys_bench.verdicts.power import power_of_training
from dlsys_bench.verdicts.sample_size import MOST, describe_enough, numbers_needed
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.training_gate import gate_training

NORMAL = np.random.default_rng(7).normal(0.95, 0.004, 20).round(4).tolist()


@pytest.mark.parametrize(
    ("shift", "stored", "seeds", "side"),
    [(2.7, 20, 12, "both"), (2.0, 20, 12, "drop"), (1.3, 50, 12, "drop"), (3.0, 5, 12, "drop")],
)
def test_the_stated_numbers_suffice(shift: float, stored: int, seeds: int, side: str) -> None:
    design = Design.of(stored, max_seeds=seeds, side=side)
    assert not design.detects(shift, margin=0.0)
    found = numbers_needed(shift, design)
    assert found
    for runs, most in found:
        assert runs > stored or most > seeds
        assert Design.of(runs, max_seeds=most, side=side).detects(shift, margin=0.0)
        # By no more than a third too many.
        fewer = Design.of(
            max(stored, int(runs / 1.35)), max_seeds=max(seeds, int(most / 1.35)), side=side
        )
        assert not fewer.detects(shift)


def test_numbers_that_are_too_large_to_simulate_are_approximated() -> None:
    design = Design.of(20, side="drop")
    assert numbers_needed(0.3, design) == []
    assert "that takes about 8" in describe_enough(0.3, design)


def test_nothing_is_trained_for_a_shift_that_cannot_be_detected() -> None:
    stored = [train_once(lambda seed: NORMAL[seed], seed, "t") for seed in range(20)]
    terms = Terms(smallest_shift=0.006)

    def train(seed: int) -> float:
        raise AssertionError("trained")

    message = r"0.006 cannot be detected: 20 reference runs .* seeds"
    with pytest.raises(UserError, match=message):
        gate_training(train, stored, terms=terms, name="t")
    with pytest.raises(UserError, match=message):
        power_of_training("t", stored, terms=terms)
    with pytest.raises(UserError, match=r"would suffice$"):
        SequentialGate(NORMAL, smallest_shift=0.0075).run(train)


def test_the_smallest_shift_of_a_gate_may_be_requested_as_it_is_printed() -> None:
    for stored, side in ((NORMAL, "both"), (NORMAL[:10], "drop"), ([*NORMAL, 0.1], "rise")):
        least = SequentialGate(stored, side=side).shift
        for text in (round_up(least), f"{least:.4f}", f"{least:.17g}"):
            SequentialGate(stored, smallest_shift=float(text), side=side).check_shift()


@pytest.mark.parametrize(
    ("value", "text"), [(0.01141, "0.012"), (0.011, "0.011"), (9.96, "10"), (123.0, "1.3e+02")]
)
def test_rounding_up_is_never_down(value: float, text: str) -> None:
    assert round_up(value) == text


def test_the_explanation_takes_little_memory_and_few_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took half a gigabyte, and 14 to 49 s, for a message. Comparisons of a stored and a new run
    take most of the time; a core makes about 2e9 of them in a second."""
    compared = 0
    pairs = simulation._pairs

    def counted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(x) * y.size
        return pairs(x, y)

    monkeypatch.setattr(simulation, "_pairs", counted)
    for cache in (simulation._draws, simulation.operating):
        cache.cache_clear()
    tracemalloc.start()
    for shift in (0.4, 1.01, 1.49, 1.91):
        with pytest.raises(UserError, match="cannot be detected"):
            SequentialGate(NORMAL, smallest_shift=shift * 0.0032).check_shift()
        assert compared < 2e9
        compared = 0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6


def test_one_collapsed_reference_run_does_not_enlarge_the_shift() -> None:
    healthy = SequentialGate(NORMAL)
    for collapsed in ([0.1], [0.1, 0.12], [1e9], [0.1, 0.1, 1e9]):
        gate = SequentialGate([*NORMAL, *collapsed])
        assert gate.scale == pytest.approx(healthy.scale)
        assert gate.shift == pytest.approx(healthy.shift, rel=0.1)
        assert gate.band is not None
        assert gate.band.std > 10 * gate.scale


def test_runs_of_two_kinds_are_no_outliers() -> None:
    values = [*NORMAL, *(value - 0.1 for value in NORMAL)]
    assert sorted(without_outliers(values)) == sorted(values)
    # Where the others agree to the last step, nothing is known about their deviation.
    steps = [0.9] * 19 + [0.9025]
    assert typical_std(steps) == pytest.approx(np.std(steps, ddof=1))


def test_healthy_files_hardly_ever_have_an_outlier() -> None:
    """One normally distributed file in a thousand has one, by design."""
    generator = np.random.default_rng(0)
    files = chain(generator.normal(size=(300, 20)), generator.normal(size=(300, 5)))
    with_outlier = sum(len(without_outliers(file.tolist())) < len(file) for file in files)
    # Exceeded with a probability of 1e-5 at a rate of 0.001.
    assert with_outlier <= 5


def test_further_reference_runs_are_simulated_with_the_side_of_the_gate() -> None:
    one, two = (Design.of(20, side=side) for side in ("drop", "both"))
    seeds = [numbers_needed(2.5, design)[0].seeds for design in (one, two)]
    assert seeds[0] < seeds[1] <= MOST
    assert replace(one, side="both") == two
