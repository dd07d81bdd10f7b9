"""Seeds without effect are found; seeds with an effect are not, however few values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import Train, stored_figures, train_once
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.repeats import probability_of_groups, repeated_runs, repeated_seeds
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Outcome, Verdict


def draw(seed: int) -> float:
    return float(0.9 + 0.004 * np.random.default_rng(seed).standard_normal())


def runs(train: Train, seeds: range = range(20)) -> list[Result]:
    return [train_once(train, seed, "m:train") for seed in seeds]


FOLDED = {
    "remainder by 10": lambda seed: draw(seed % 10),
    "remainder by 7": lambda seed: draw(seed % 7),
    "remainder by 2": lambda seed: draw(seed % 2),
    "quotient by 2": lambda seed: draw(seed // 2),
    "quotient by 4": lambda seed: draw(seed & ~3),
    "all 20 runs": lambda seed: draw(42),
    "all 20 runs are equal (metric 0.95)": lambda seed: 0.95,
}


@pytest.mark.parametrize("text", FOLDED)
def test_seeds_without_effect_are_found(text: str) -> None:
    assert text in str(repeated_seeds(runs(FOLDED[text])))


def test_a_fold_of_a_discrete_accuracy_is_found() -> None:
    found = repeated_seeds(runs(lambda seed: round(360 * draw(seed % 10)) / 360, range(40)))
    assert "remainder by 10" in str(found)


@pytest.mark.parametrize("std", [0.002, 0.004, 0.02])
def test_a_discrete_accuracy_on_few_samples_is_not_rejected(std: float) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        accuracies = np.round(360 * generator.normal(0.95, std, 32)).clip(0, 360) / 360
        stored = dict(zip([*range(20), *range(10_000, 10_012)], accuracies.tolist(), strict=True))
        new = runs(stored.__getitem__)
        later = runs(stored.__getitem__, range(10_000, 10_012))
        assert repeated_seeds(new) is None
        assert repeated_runs(later, new) is None


@pytest.mark.parametrize("value", [0.0, 1.0, 100.0])
def test_a_saturated_accuracy_is_not_rejected(value: float) -> None:
    stored = runs(lambda seed: value)
    assert repeated_seeds(stored) is None
    assert repeated_runs(runs(lambda seed: value, range(100, 112)), stored) is None


def with_constant_accuracy(seed: int) -> dict[str, float]:
    return {"accuracy": 29 / 30, "loss": 1 - draw(seed)}


def test_an_accuracy_that_hardly_varies_is_judged_if_a_finer_figure_differs() -> None:
    stored = runs(with_constant_accuracy)

    def verdict(accuracy: float, shift: float | None) -> Verdict:
        return gate_training(
            lambda seed: {**with_constant_accuracy(seed), "accuracy": accuracy},
            stored,
            metric="accuracy",
            better="higher",
            terms=Terms(smallest_shift=shift),
            name="t",
        )

    assert repeated_seeds(stored, "accuracy") is None
    assert verdict(29 / 30, 0.02).outcome is Outcome.PASS
    assert verdict(27 / 30, 0.02).outcome is Outcome.FAIL
    assert verdict(29 / 30, None).outcome is Outcome.INCONCLUSIVE


def test_other_constants_and_durations_explain_no_constant_figure() -> None:
    constants = repeated_seeds(runs(lambda seed: {"accuracy": 29 / 30, "epochs": 10}), "accuracy")
    assert "no finer figure, such as a loss" in str(constants)
    timed = runs(lambda seed: {"accuracy": draw(42), "seconds": draw(seed)})
    assert "all 20 runs are equal" in str(repeated_seeds(timed, "accuracy"))


def test_the_probability_of_groups_is_that_of_all_assignments() -> None:
    values = "aabbbbc"
    groups = [(0, 1), (2, 3), (4, 5), (6,)]
    equal = [
        all(len({order[place] for place in group}) == 1 for group in groups)
        for order in permutations(values)
    ]
    counts = list(Counter(values).values())
    assert probability_of_groups(counts, [2, 2, 2, 1]) == pytest.approx(np.mean(equal), abs=1e-15)
    assert probability_of_groups(counts, [3, 4]) == 0.0
    assert probability_of_groups([20], [10, 10]) == 1.0


TERMS = Terms(smallest_shift=0.02)


@pytest.mark.parametrize("train", [FOLDED["remainder by 10"], FOLDED["all 20 runs"]])
def test_a_gate_rejects_a_reference_of_repeated_runs(train: Callable[[int], float]) -> None:
    with pytest.raises(UserError, match=r"the\.jsonl: .* equal runs count as one"):
        gate_training(draw, runs(train), terms=TERMS, source="the.jsonl")


@pytest.mark.parametrize("train", [lambda _: draw(42), lambda seed: 0.9])
def test_a_gate_does_not_pass_a_training_that_ignores_its_seed(
    train: Callable[[int], float],
) -> None:
    with pytest.raises(UserError, match="equal runs count as one"):
        gate_training(train, runs(draw), terms=TERMS)


def test_a_healthy_discrete_accuracy_passes() -> None:
    def train(seed: int) -> float:
        return round(360 * draw(seed)) / 360

    assert gate_training(train, runs(train), terms=TERMS).outcome is Outcome.PASS


def test_a_constant_that_is_worse_fails_with_a_remark() -> None:
    verdict = gate_training(lambda _: draw(42) - 0.3, runs(draw), terms=TERMS)
    assert verdict.outcome is Outcome.FAIL
    assert "equal runs count as one" in verdict.reason


def test_figures_given_in_order_are_not_seeds() -> None:
    given = sorted(round(360 * draw(seed)) / 360 for seed in range(20))
    assert gate_training(draw, stored_figures(given), terms=TERMS).outcome is Outcome.PASS
