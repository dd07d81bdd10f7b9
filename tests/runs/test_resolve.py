"""An arm that an engine declares to lack something for is refused before it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from command_line import invoke

from dlsys_bench.data import load
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.errors import BatchError, EngineError, UserError
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.run import resolve
from dlsys_bench.studies.registry import find


class Limited(NumpyEngine):
    """Lacks what a test sets."""


@pytest.mark.parametrize(
    ("study", "need"),
    [
        ("regularization/lenet5-tanh/dropout", "layer:conv2d"),
        ("regularization/lenet5-tanh/dropout", "function:tanh"),
        ("regularization/lenet5-tanh/dropout", "native"),
        ("regularization/lenet5-tanh/dropout", "loss:categorical_crossentropy"),
    ],
)
def test_a_declared_lack_is_one_line(
    study: str, need: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = find(study)
    resolve(case, Limited(), load("digits"), "quick")
    monkeypatch.setattr(Limited, "lacks", {need: "not written yet"})
    with pytest.raises(EngineError, match=f"lacks, {need}: not written yet"):
        resolve(case, Limited(), load("digits"), "quick")


@pytest.mark.parametrize("field", ["study", "arm"])
def test_a_name_that_no_file_of_runs_could_hold_is_refused(field: str) -> None:
    (case,) = find("regularization/lenet5-tanh/dropout")
    named = replace(getattr(case, field), name="a\x1b[31m\n::error::")
    with pytest.raises(UserError, match=f"{field} is .*without control characters"):
        Key.of(case._replace(**{field: named}), NumpyEngine(), load("digits"), "quick", 0)


def test_commands_refuse_it_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks: dict[str, Any] = {"layer:dense": "not written yet"}
    monkeypatch.setattr(Limited, "lacks", lacks)
    arguments = ("--engine", f"{__name__}:Limited", "--dataset", "digits")
    done = invoke("gate", "regularization/lenet5-tanh/dropout", *arguments, code=2)
    assert "layer:dense: not written yet" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = invoke("gate", "regularization/lenet5-tanh", *arguments, code=2)
    assert "none of the" in done.stderr


def test_a_batch_without_a_variance_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = find("regularization/lenet5-tanh/bn+bn")
    size = case.arm.recipe("quick").batch_size
    monkeypatch.setattr("dlsys_bench.runs.run.training_count", lambda *arguments: size + 1)
    resolve(case, Limited(), load("digits"), "quick")
    monkeypatch.setattr(Limited, "convention", "torch")
    with pytest.raises(BatchError, match=r"batch_norm_\d cannot train on a batch of 1 sample"):
        resolve(case, Limited(), load("digits"), "quick")
