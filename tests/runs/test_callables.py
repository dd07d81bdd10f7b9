"""The user's own training: valid and invalid return values."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from results import make_result

from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import (
    METRIC,
    find_train,
    name_of,
    runs_named,
    stored_figures,
    target_of,
    train_once,
)
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric


def test_numbers_and_mappings_become_figures() -> None:
    assert train_once(lambda seed: 0.9 + seed, 3, "mine").figures == {METRIC: 3.9}
    found = train_once(
        lambda seed: {"accuracy": np.float32(0.5), "loss": np.array(2.0)},  # type: ignore[dict-item]
        1,
        "mine",
    )
    assert found.figures == {"accuracy": 0.5, "loss": 2.0}
    assert found.metric("loss") == 2.0
    assert (found.key.study, found.seed, found.status) == ("mine", 1, "finished")
    assert Result.from_dict(found.to_dict()) == found


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_figures_have_diverged(value: float) -> None:
    found = train_once(lambda seed: {"accuracy": 0.1, "loss": value}, 1, "mine")
    assert (found.status, found.figures, found.metric("accuracy")) == ("diverged", {}, None)
    assert found.reason == f"loss became {value}"


@pytest.mark.parametrize(
    "value",
    [None, "0.9", "high", [0.1], {}, {"a": "0.9"}, {"a": None}, {"a": {"b": 1.0}}, np.zeros(2)],
)
def test_other_return_values_raise(value: object) -> None:
    with pytest.raises(
        UserError, match=r"training 'mine' returned .*; it has to return a number, or a mapping"
    ):
        train_once(lambda seed: value, 1, "mine")  # type: ignore[arg-type, return-value]


def test_errors_of_the_training_pass_through() -> None:
    def train(seed: int) -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        train_once(train, 1)


def test_find_train_by_name() -> None:
    assert find_train("math:sqrt") is math.sqrt
    name = name_of(test_find_train_by_name)  # type: ignore[arg-type]
    assert name.endswith("test_callables:test_find_train_by_name")
    with pytest.raises(
        UserError, match="training 'math:pi' is a float; expected a callable of a seed"
    ):
        find_train("math:pi")
    with pytest.raises(
        UserError, match=r"training 'math:sqr': math has no 'sqr' \(did you mean \"sqrt\"\?\)"
    ):
        find_train("math:sqr")


def test_stored_figures_are_named_after_their_metric() -> None:
    for metric in ("loss", Metric("loss", higher_is_better=False)):
        one, other = stored_figures([0.5, 0.25], metric)
        assert (one.figures, other.figures) == ({"loss": 0.5}, {"loss": 0.25})
        assert (one.seed, other.seed) == (-1, -2)
    assert stored_figures([1.0])[0].figures == {METRIC: 1.0}
    for wrong in (["high"], [0.9, math.nan]):
        with pytest.raises(UserError, match="they have to be numbers, or a file of runs"):
            stored_figures(wrong)  # type: ignore[arg-type]


def test_a_command_finds_a_training_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "nets_of_target"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "small.py").write_text("def train(seed):\n    return seed / 7\n")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    train = importlib.import_module("nets_of_target.small").train
    assert target_of(train, tmp_path / "src") == "nets_of_target.small:train"
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        target = target_of(train, folder)
        assert target.endswith("src/nets_of_target/small.py:train")
        assert find_train(target) is train
    assert target_of(np.mean, tmp_path) == name_of(np.mean)  # An installed package.


@pytest.mark.parametrize(
    ("stored", "target", "found"),
    [
        (("a:f", "a:g"), "a:g", "a:g"),
        (("a:f", "a:g"), "folder/a.py:g", "a:g"),
        (("a:f",), "b:other", "a:f"),
        (("a:f", "b:f"), "c:f", None),
        (("a:f", "a:g"), "file.jsonl", None),
        ((), "a:f", None),
    ],
)
def test_runs_are_found_under_another_name_of_the_module(
    stored: Sequence[str], target: str, found: str | None
) -> None:
    runs = [make_result(study=name) for name in stored]
    assert [run.key.study for run in runs_named(runs, target)] == ([found] if found else [])
