"""What initialisation does: the theory against drawn networks, and the counting of saturated
outputs."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.data import load
from dlsys_bench.engines.registry import create
from dlsys_bench.notebooks.studies.initialization import saturated
from dlsys_bench.runs.run import run
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find

CASES = find("initialization")
SEEDS = 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.arm.name)
def test_what_is_measured_is_what_theory_predicts(case: Case) -> None:
    """The mean of six draws, layer by layer. Theory is of infinite width: at a hundred units a
    layer's deviation strays by a part in ten from draw to draw, and ReLU's compounds."""
    engine, digits = create("numpy"), load("digits")
    figures = [run(case, engine, digits, seed=seed).figures for seed in range(SEEDS)]
    for layer in range(5):
        deviations = np.array([found["deviation"][layer] for found in figures])
        expected = figures[0]["theory"]["deviation"][layer]
        assert np.log(deviations).mean() == pytest.approx(np.log(expected), abs=0.25), layer
        fractions = np.array([found["saturated"][layer] for found in figures])
        assert fractions.mean() == pytest.approx(
            figures[0]["theory"]["saturated"][layer], abs=0.06
        ), layer


@pytest.mark.parametrize(
    ("function", "y", "expected"),
    [
        ("tanh", [-1.0, -0.991, -0.98, 0.0, 0.995], [True, True, False, False, True]),
        ("sigmoid", [0.001, 0.02, 0.5, 0.98, 0.995], [True, False, False, False, True]),
        ("relu", [0.0, 1e-9, 3.0], [True, False, False]),
    ],
)
def test_saturated_is_within_a_hundredth_of_an_end(
    function: str, y: list[float], expected: list[bool]
) -> None:
    assert saturated(function, np.array(y)).tolist() == expected


def test_glorot_and_he_keep_what_they_promise() -> None:
    """Tanh keeps its spread under Glorot; ReLU shrinks by half each layer's variance under Glorot,
    and not under He."""
    engine, digits = create("numpy"), load("digits")

    def decay(arm: str) -> float:
        (case,) = find(f"initialization/{arm}")
        return float(
            np.mean(
                [run(case, engine, digits, seed=seed).figures["decay"] for seed in range(SEEDS)]
            )
        )

    assert decay("relu/glorot_normal") == pytest.approx(2**-2, rel=0.35)
    assert decay("relu/he_normal") == pytest.approx(1.0, rel=0.35)
    assert decay("tanh/glorot_normal") > 0.5
    assert decay("tanh/normal(0.05)") < 0.1
