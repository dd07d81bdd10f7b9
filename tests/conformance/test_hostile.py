"""Engines that hang, crash or break the protocol: each gives a finding, and the rung goes on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from dlsys_bench import check_engine
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.trial import Options

IN_WORKERS = ("Hangs", "HangsInC", "Crashes", "Dies")
"""The engines that would hang or end the process of the tests."""

SLOW = ("HangsInC", "Dies")
HERE = str(Path(__file__).parent)

MESSAGES = {
    "Hangs": ("shapes/history", "no answer in 2 s"),
    "HangsInC": ("shapes/dense", "no answer in 2 s"),
    "Crashes": ("shapes/dense", "the process ended by SIGABRT"),
    "Exits": ("shapes/dense", "predict raised SystemExit: done"),
    "Dies": ("shapes/dense", "the process ended with exit status 3"),
    "WrongShape": ("shapes/dense", "the shape of the result of predict: actual"),
    "WrongDtype": (
        "shapes/dense",
        "the dtype of the result of predict: actual float16, expected float64",
    ),
    "NotAnArray": (
        "shapes/dense",
        "trace of dense_1: actual builtins.list, expected a numpy array",
    ),
    "NotANumber": ("gradient/dense", "d x at (0, 0): actual nan"),
    "LosesATensor": ("shapes/dense", "the names of the tensors in weights: actual ['dense_1.bias'"),
    "WritesIntoX": ("shapes/dense", "predict wrote into an array that it was given"),
    "WritesIntoLabels": ("shapes/history", "fit wrote into an array that it was given"),
    "ReturnsViews": ("shapes/copies", "that weights had returned"),
    "ReusesItsOutput": ("shapes/batches", "that predict had returned"),
    "Prints": ("shapes/quiet", "prints to standard output: 'epoch 1/10"),
    "PrintsInC": ("shapes/quiet", "prints to standard output:"),
    "RaisesInFit": (
        "shapes/history",
        "fit raised RuntimeError: CUDA error: an illegal memory access",
    ),
    "CannotBeMade": ("shapes/dense", "libfast.so.3: cannot open shared object file"),
    "NoHistory": ("shapes/history", "the result of fit: actual builtins.NoneType"),
    "Undecided": ("shapes/repeated", "two calls of trace with the same arguments differ by"),
}


def _params() -> list[object]:
    return [
        pytest.param(name, *MESSAGES[name], id=name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in MESSAGES
    ]


@pytest.mark.parametrize(("name", "check", "message"), _params())
def test_a_hostile_engine_gives_a_finding_and_a_replay(
    name: str, check: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    options = Options(examples=10, budget=1.0, seconds=2.0 if "Hangs" in name else 60.0)
    in_worker = name in IN_WORKERS
    engine = f"hostile:{name}" if in_worker else getattr(importlib.import_module("hostile"), name)
    (result,) = check_engine(engine, "collect", checks=[check], options=options)
    assert result.status is Status.FAILED
    assert result.finding is not None
    assert result.finding.fault is not None
    assert message in result.message()
    replay = f"dlsys-bench conform --engine hostile:{name} --check {check} --seed 0"
    assert replay in result.message()


@pytest.mark.slow
def test_the_rung_goes_on_in_a_new_worker_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    worker = ProcessRunner("hostile:DiesOfSoftmax")
    try:
        results = {r.subject: r.status for r in climb([worker], select(["shapes", "loss"]))}
    finally:
        worker.close()
    assert results["softmax"] is Status.FAILED
    assert results["history"] is Status.PASSED
    assert results["hinge"] is Status.NOT_REACHED


@pytest.mark.slow
def test_a_rung_is_left_after_three_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    worker = ProcessRunner("hostile:HangsInC", options=Options(seconds=1.5))
    try:
        results = climb([worker], select(["shapes"]))
    finally:
        worker.close()
    reasons = [result.reason for result in results if result.status is Status.NOT_REACHED]
    assert reasons
    assert set(reasons) == {"3 earlier checks on this rung timed out"}
