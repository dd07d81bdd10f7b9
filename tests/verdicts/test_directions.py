"""The direction of a metric is stated, its unit is watched, and a FAIL says what has changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.direction import better_of, read_better, with_better
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.explanation import change_of_unit
from dlsys_bench.verdicts.power import power_of_training
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Outcome

DROP = Terms(smallest_shift=0.02, side="drop")


def draw(seed: int) -> float:
    return float(0.9 + 0.004 * np.random.default_rng(seed).standard_normal())


def runs(name: str = "metric", better: tuple[str, ...] = ()) -> list[Result]:
    stored = [train_once(lambda seed: {name: draw(seed)}, seed, "m:train") for seed in range(20)]
    return [with_better(run, read_better(better)) for run in stored]


@pytest.mark.parametrize("name", ["maestro_accuracy", "f_beta", "test_loss", "test_accuracy"])
def test_no_direction_is_read_from_a_name(name: str) -> None:
    def train(seed: int) -> dict[str, float]:
        return {name: draw(seed)}

    assert gate_training(train, runs(name), terms=DROP).outcome is Outcome.PASS
    lower = runs(name, (f"{name}=lower",))
    assert better_of(lower, name) == "lower"
    with pytest.raises(UserError, match=f"lower {name} is better, so side 'drop'"):
        gate_training(train, lower, terms=DROP)
    with pytest.raises(UserError, match=f"lower {name} is better, so side 'drop'"):
        gate_training(train, runs(name), terms=DROP, better="lower")
    with pytest.raises(UserError, match="stated differently: lower by the reference, higher"):
        gate_training(train, lower, better="higher")
    with pytest.raises(UserError, match="higher by the Metric"):
        gate_training(train, lower, metric=Metric(name, higher_is_better=True))


def test_directions_are_checked_and_stored() -> None:
    both = train_once(lambda seed: {"a": 1.0, "b": 2.0}, 0, "m:train")
    directed = with_better(both, read_better(["higher", "b=lower"]))
    assert Result.from_dict(directed.to_dict()).provenance["training"]["better"] == {
        "a": "higher",
        "b": "lower",
    }
    with pytest.raises(UserError, match="better is 'up'; expected higher or lower"):
        read_better(["a=up"])
    with pytest.raises(UserError, match="returns no metric 'c'.*; it returns a, b"):
        with_better(both, {"c": "lower"})
    opposite = replace(with_better(both, {"a": "lower"}), seconds=2.0)
    with pytest.raises(UserError, match="disagree whether higher or lower a is better"):
        better_of([directed, opposite], "a")


@pytest.mark.parametrize("side", ["drop", "rise"])
def test_a_change_of_unit_is_reported_by_a_gate_of_either_side(side: str) -> None:
    terms = replace(DROP, side=side)
    percent = 100.0 if side == "drop" else 0.01
    with pytest.raises(UserError, match=r"as if the unit had changed \(fractions and per cent\)"):
        gate_training(lambda seed: percent * draw(seed), runs(), terms=terms)
    with pytest.raises(UserError, match="the unit had changed"):
        gate_training(lambda seed: percent * draw(seed), runs(better=("higher",)), terms=terms)


def test_figures_of_many_magnitudes_have_no_unit_to_change() -> None:
    assert change_of_unit([97.0], [0.96, 0.97, 0.98])
    assert change_of_unit([0.97], [96.0, 97.0, 98.0])
    assert not change_of_unit([0.5], [0.96, 0.97, 0.98])
    assert not change_of_unit([97.0], [0.001, 0.97, 50.0])
    assert not change_of_unit([nan], [0.97])


def test_a_fail_has_five_lines_with_the_figure_first() -> None:
    verdict = gate_training(lambda seed: draw(seed) - 0.2, runs(), terms=DROP, source="f.jsonl")
    first, certainty, changed, replay, accept = (
        replace(verdict, changes=("numpy 1.26.4 -> 2.0.0",), accept="dlsys-bench baseline accept x")
        .message(1000)
        .split("\n  ")
    )
    assert first.startswith("FAIL: metric 0.7016 (5 seeds)")
    assert "p-value" in certainty
    assert changed == "changed since the baseline: numpy 1.26.4 -> 2.0.0"
    assert replay.startswith("replay: dlsys-bench gate ")
    assert accept == "accept: dlsys-bench baseline accept x"
    assert "unknown" in str(verdict.changes)


@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_a_verdict_is_folded_without_loss(drop: float) -> None:
    verdict = gate_training(lambda seed: draw(seed) - drop, runs(), terms=DROP, source="f.jsonl")
    folded = verdict.message(60)
    assert folded.split() == verdict.message(1000).split()
    lines = [line for line in folded.splitlines() if "dlsys-bench" not in line]
    # A name that is longer than a line keeps its line.
    assert all(len(line) <= 60 or " " not in line.strip() for line in lines)


def test_the_power_of_a_training_is_that_of_its_gate() -> None:
    found = power_of_training("m:train", runs(), terms=Terms())
    assert (found.key.study, found.stored, found.metric) == ("m:train", 20, "metric")
    assert 0 < found.smallest_shift < 0.05


class Tensor:
    """An array of a framework."""

    shape, size = (3,), 3

    def __float__(self) -> float:
        raise TypeError("only one element")


@pytest.mark.parametrize(
    ("returned", "advice"),
    [
        (
            [0.31, 0.9],
            r"a list, \[0\.31.*\{'loss': values\[0\], 'accuracy': values",
        ),
        ((0.31, 0.9), r"return_dict=True"),
        ({"accuracy": [0.8, 0.9]}, r"a list as 'accuracy'.*values\[-1\]"),
        (np.zeros(3), r"reduce its shape \(3,\) to one number"),
        (Tensor(), r"reduce its shape \(3,\) to one number"),
        (None, "end it with `return`"),
        ("0.9", r"return float\(\.\.\.\) of it"),
        ({}, "returned an empty mapping"),
        (object(), r"convert it by float"),
    ],
)
def test_a_value_that_is_no_number_is_an_error_that_names_the_fix(
    returned: Any, advice: str
) -> None:
    with pytest.raises(UserError, match=advice):
        train_once(lambda seed: returned, 0, "m:train")


SCALARS: list[Callable[[], Any]] = [lambda: np.float32(0.5), lambda: np.array(0.5), lambda: 1]


@pytest.mark.parametrize("value", SCALARS)
def test_scalars_are_numbers(value: Callable[[], Any]) -> None:
    assert train_once(lambda seed: value(), 0, "m:train").figures["metric"] == float(value())
