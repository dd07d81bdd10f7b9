"""The initialization study: the theory against drawn networks, and counts of saturated outputs."""

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
def test_the_theory_predicts_the_measurements(case: Case) -> None:
    """Compare the mean of six draws, layer by layer.

    The theory holds in the limit of infinite width. With a hundred units, the standard deviation of
    a layer varies by about 10% between draws, and for ReLU this accumulates over the layers.
    """
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
def test_an_output_near_an_asymptote_is_saturated(
    function: str, y: list[float], expected: list[bool]
) -> None:
    assert saturated(function, np.array(y)).tolist() == expected


def test_glorot_keeps_the_scale_of_tanh_and_he_that_of_relu() -> None:
    """Under Glorot, tanh keeps its standard deviation, and the variance of ReLU halves with each
    layer; under He, ReLU keeps it."""
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
