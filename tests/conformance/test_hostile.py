"""Engines that hang, crash, lie and meddle: each gives a finding that says so, and the rest of the
rung goes on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from dlsys_bench import check_engine
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.runner import Options, ProcessRunner

SPOIL = ("Hangs", "HangsInC", "Crashes", "Exits", "Dies", "PrintsInC", "CannotBeMade")
HERE = str(Path(__file__).parent)

SAYS = {
    "Hangs": ("shapes/history", "no answer in 2 s"),
    "HangsInC": ("shapes/dense", "no answer in 2 s"),
    "Crashes": ("shapes/dense", "the process ended by SIGABRT"),
    "Exits": ("shapes/dense", "predict raised SystemExit: done"),
    "Dies": ("shapes/dense", "the process ended with exit status 3"),
    "WrongShape": ("shapes/dense", "predict has the shape"),
    "WrongDtype": ("shapes/dense", "predict is float16, not float64"),
    "NotAnArray": ("shapes/dense", "trace of dense_1 is a builtins.list; it takes a numpy array"),
    "NotANumber": ("gradient/dense", "d x is nan"),
    "LosesATensor": ("shapes/dense", "weights lacks ['dense_1.kernel']"),
    "WritesIntoX": ("shapes/dense", "predict wrote into an array that it was given"),
    "WritesIntoLabels": ("shapes/history", "fit wrote into an array that it was given"),
    "ReturnsViews": ("shapes/copies", "changed what weights had returned"),
    "ReusesItsOutput": ("shapes/batches", "predict changed what predict had returned"),
    "Prints": ("shapes/quiet", "prints to standard output: 'epoch 1/10"),
    "PrintsInC": ("shapes/quiet", "prints to standard output:"),
    "RaisesInFit": (
        "shapes/history",
        "fit raised RuntimeError: CUDA error: an illegal memory access",
    ),
    "CannotBeMade": ("shapes/dense", "libfast.so.3: cannot open shared object file"),
    "NoHistory": ("shapes/history", "fit gave NoneType; it takes a generator"),
    "Undecided": ("shapes/repeated", "trace gives another answer to the same question"),
}


@pytest.mark.parametrize("name", SAYS)
def test_a_hostile_engine_gives_a_named_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    check, said = SAYS[name]
    options = Options(examples=10, budget=1.0, seconds=2.0 if "Hangs" in name else 60.0)
    # A process of its own takes a second to start: only those that would spoil this one have it.
    engine = (
        f"hostile:{name}" if name in SPOIL else getattr(importlib.import_module("hostile"), name)
    )
    (result,) = check_engine(engine, "collect", checks=[check], options=options)
    assert result.status is Status.FAILED
    assert said in result.message()
    assert (
        f"dlsys-bench conform --engine hostile:{name} --check {check} --seed 0" in result.message()
    )


def test_the_rest_of_the_rung_goes_on_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    worker = ProcessRunner("hostile:DiesOfSoftmax")
    try:
        results = {o.subject: o.status for o in climb([worker], select(["shapes", "loss"]))}
    finally:
        worker.close()
    assert results["softmax"] is Status.FAILED
    assert results["history"] is Status.PASSED
    assert results["hinge"] is Status.NOT_REACHED


def test_an_engine_that_hangs_is_not_waited_for_in_every_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(HERE)
    worker = ProcessRunner("hostile:HangsInC", options=Options(seconds=1.5))
    try:
        results = climb([worker], select(["shapes"]))
    finally:
        worker.close()
    reasons = [result.reason for result in results if result.status is Status.NOT_REACHED]
    assert reasons
    assert set(reasons) == {"3 checks before it hung"}
