"""Targets follow from the reference runs alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev

import pytest
from scipy import stats

from dlsys_bench.data import load
from dlsys_bench.errors import UserError
from dlsys_bench.studies.registry import find
from dlsys_bench.timing.target import Target
from dlsys_bench.verdicts.target import target_of

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"


@pytest.mark.parametrize(
    ("study", "arm", "metric", "side"),
    [
        ("regularization/lenet5-tanh", "standard+bn", "test_accuracy", -1),
        ("learning-rate-sweep", "0.1", "running_loss", 1),
    ],
)
def test_the_target_is_the_worse_end_of_the_prediction_interval(
    study: str, arm: str, metric: str, side: int
) -> None:
    (case,) = find(f"{study}/{arm}")
    name = study.replace("/", ".")
    lines = [
        json.loads(line)
        for line in (REFERENCE / f"{name}.digits.quick.jsonl").read_text().splitlines()
    ]
    last = [
        line["history"][-1][metric]
        for line in lines
        if line["arm"] == arm and line["protocol"] == case.arm.protocol("quick")
    ]
    n = len(last)
    half = stats.t.isf(0.01, n - 1) * stdev(last) * math.sqrt(1 + 1 / n)
    target = target_of(case, load("digits"), "quick")
    assert target.metric == metric
    assert target.value == pytest.approx(mean(last) + side * half, rel=1e-6)
    assert (target.stored, target.chance, target.at_most) == (n, 0.99, side > 0)
    # Nearly all of the reference runs themselves reach it.
    assert sum(target.reached(value) for value in last) >= 0.9 * n
    assert f"{target.value:.5g}" in str(target)
    assert f"{n} reference runs" in target.explanation
    assert "99% of healthy runs" in target.explanation


@pytest.mark.parametrize(
    ("name", "tier", "message"),
    [
        ("dying-relu/relu", "quick", "no time to its collapse_fraction"),
        ("regularization/lenet5-sigmoid/dropout", "quick", "still at chance"),
        ("regularization/lenet5-tanh/dropout", "full", "0 reference runs"),
    ],
)
def test_arms_without_a_target_raise(name: str, tier: str, message: str) -> None:
    (case,) = find(name)
    with pytest.raises(UserError, match=message):
        target_of(case, load("digits"), tier)


def test_an_equal_value_reaches_the_target_and_nan_does_not() -> None:
    high = Target("test_accuracy", 0.9, 0.99, 0.95, 0.02, 20, "reference/x.jsonl")
    low = Target("test_loss", 0.9, 0.99, 0.5, 0.02, 20, "reference/x.jsonl", at_most=True)
    assert [high.reached(value) for value in (0.89, 0.9, 0.91, math.nan)] == [
        False,
        True,
        True,
        False,
    ]
    assert [low.reached(value) for value in (0.89, 0.9, 0.91, math.nan)] == [
        True,
        True,
        False,
        False,
    ]
