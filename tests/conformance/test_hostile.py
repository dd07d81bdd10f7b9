"""Engines that hang, crash or break the protocol: each gives a finding, and the rung goes on."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dlsys_bench import check_engine
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.process import ProcessRunner
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.trial import Options
from dlsys_bench.text import printable

IN_WORKERS = (
    "Hangs",
    "HangsInC",
    "Spins",
    "StopsItself",
    "Crashes",
    "Dies",
    "ExitsWithZero",
    "Interrupts",
    "LongErrors",
    "CommandsInErrors",
    "RaisesEndless",
    "KillsItsGroup",
    "ClosesDescriptors",
    "ForgesAnswers",
)
"""The engines that would hang or end the process of the tests."""

TIMEOUTS = ("Hangs", "HangsInC", "Spins", "StopsItself", "RaisesEndless")
HERE = str(Path(__file__).parent)

ESCAPED = r"\x1b[2J\x1b]0;title\x07"

MESSAGES = {
    "Hangs": ("shapes/history", "no answer in 2 s"),
    "HangsInC": ("shapes/dense", "no answer in 2 s"),
    "Spins": ("shapes/dense", "no answer in 2 s (2 s of CPU time"),
    "StopsItself": ("shapes/dense", "--seconds (of pytest: --dlsys-seconds) raises the limit"),
    "Crashes": ("shapes/dense", "the process ended by SIGABRT"),
    "Exits": ("shapes/dense", "predict raised SystemExit: done"),
    "Dies": ("shapes/dense", "the process ended with exit status 3"),
    "ExitsWithZero": ("shapes/dense", "the process ended with exit status 0"),
    "Interrupts": ("shapes/dense", "the process ended by SIGINT: KeyboardInterrupt"),
    "RaisesBaseException": ("shapes/dense", "predict raised BaseException: no Exception"),
    "Recurses": ("shapes/dense", "predict raised RecursionError: maximum recursion depth"),
    "EatsMemory": ("shapes/dense", "Unable to allocate 1.00 EiB"),
    "LongMessage": ("shapes/dense", "predict raised RuntimeError: begin xxx"),
    "LongErrors": ("shapes/dense", "the process ended by SIGABRT: xxx"),
    "CommandsInMessage": ("shapes/dense", f"predict raised RuntimeError: {ESCAPED}"),
    "CommandsInErrors": ("shapes/dense", r"by SIGABRT: \x1b[31m::error::x #\#[group]"),
    "CommandsInNames": ("shapes/dense", r"the names of the tensors in weights: actual ['\x1b"),
    "CommandsInTypes": ("shapes/dense", rf"actual hostile.{ESCAPED}"),
    "RaisesUnspeakable": ("shapes/dense", "UnspeakableError (and its __str__ raised SystemExit)"),
    "RaisesEndless": ("shapes/dense", "no answer in 2 s"),
    "KillsItsGroup": ("shapes/dense", "the process ended by SIGKILL"),
    "ClosesDescriptors": ("shapes/dense", "the process ended with exit status 1"),
    "ForgesAnswers": ("shapes/dense", "wrote to a file descriptor that it had not opened"),
    "WrongShape": ("shapes/dense", "the shape of the result of predict: actual"),
    "WrongDtype": (
        "shapes/dense",
        "the dtype of the result of predict: actual float16, expected float64",
    ),
    "Nothing": ("gradient/dense", "the result of gradients: actual builtins.NoneType"),
    "LossOfOne": (
        "gradient/dense",
        "the loss of gradients: actual numpy.ndarray of shape (1,), expected a number",
    ),
    "RaisingArray": ("shapes/dense", "RuntimeError: no shape"),
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


def _marks(name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of an engine: each that needs a worker takes a second and more."""
    if name in TIMEOUTS:
        return [pytest.mark.rotates("engines that give no answer", 1)]
    return [pytest.mark.rotates("engines that end their process", 2)] * (name in IN_WORKERS)


def _params() -> list[object]:
    return [pytest.param(name, *MESSAGES[name], id=name, marks=_marks(name)) for name in MESSAGES]


def few(name: str) -> Options:
    """Return options with a short limit for an engine that exceeds every one."""
    return Options(examples=10, budget=1.0, seconds=2.0 if name in TIMEOUTS else 60.0)


@pytest.mark.parametrize(("name", "check", "message"), _params())
def test_a_hostile_engine_gives_a_finding_and_a_replay(
    name: str, check: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    in_worker = name in IN_WORKERS
    engine = f"hostile:{name}" if in_worker else getattr(importlib.import_module("hostile"), name)
    (result,) = check_engine(engine, "collect", checks=[check], options=few(name))
    # A timeout is no verdict on the engine.
    assert result.status is (Status.TIMEOUT if name in TIMEOUTS else Status.FAILED)
    assert result.finding is not None
    assert result.finding.fault is not None
    assert message in result.message()
    replay = f"dlsys-bench conform --engine hostile:{name} --check {check} --seed 0"
    assert replay in result.message()
    assert result.message() == printable(result.message(), 10_000)
    assert len(json.dumps(result.to_dict())) < 20_000


@pytest.mark.rotates("engines that start processes", 1)
@pytest.mark.parametrize("name", ["Daemonizes", "Forks", "KillsItsParent", "StartsPrograms"])
@pytest.mark.skipif(sys.platform != "linux", reason="no process adopts orphans elsewhere")
def test_no_process_of_an_engine_survives_its_worker(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("HOSTILE_PIDS", str(pids))
    monkeypatch.syspath_prepend(HERE)
    check_engine(f"hostile:{name}", "collect", checks=["shapes/dense"], options=few(name))
    started = [int(pid) for pid in pids.read_text().split()] if pids.exists() else []
    # A worker that kills its supervisor may end before it has started anything.
    assert started or name == "KillsItsParent"
    # The end of a worker whose supervisor was killed is not waited for.
    left = [process for process in psutil.process_iter() if process.pid in started]
    _, alive = psutil.wait_procs(left, timeout=120)
    assert not alive


@pytest.mark.slow
@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.skipif(sys.platform != "linux", reason="no process adopts orphans elsewhere")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_survives_the_command(end: int, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = subprocess.Popen(
        [sys.executable, "-m", "dlsys_bench", "conform", "--engine", "hostile:Waits"],
        cwd=tmp_path,
        env=os.environ
        | {"HOSTILE_PIDS": str(pids), "PYTHONPATH": os.pathsep.join([HERE, *sys.path])},
        stderr=subprocess.DEVNULL,
    )
    while not pids.exists() or not pids.read_text():
        assert command.poll() is None
        time.sleep(0.1)
    left = [int(pid) for pid in pids.read_text().split()]
    command.send_signal(end)
    command.wait(timeout=900)
    while any(psutil.pid_exists(pid) for pid in left):
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ReadsStandardInput", "ChangesSignals", "StartsThreads"])
def test_what_harms_nobody_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)
    check_engine(f"hostile:{name}", checks=["shapes/dense"], options=few(name))


def test_a_declared_reason_is_escaped() -> None:
    hostile = importlib.import_module("hostile")
    (result,) = check_engine(hostile.CommandsInReason, checks=["gradient/dense"])
    assert result.status is Status.DECLARED
    assert ESCAPED in str(result.reason)


@pytest.mark.slow
def test_the_output_of_the_command_is_short_and_holds_no_commands(tmp_path: Path) -> None:
    for name in ("LongMessage", "CommandsInMessage", "CommandsInNames", "CommandsInErrors"):
        options = ["--engine", f"hostile:{name}", "--check", "shapes/dense", "--output", "report"]
        done = subprocess.run(
            [sys.executable, "-m", "dlsys_bench", "conform", *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([HERE, *sys.path])},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        texts = [done.stdout, done.stderr, (tmp_path / f"report/hostile.{name}.md").read_text()]
        texts.append((tmp_path / f"report/hostile.{name}.html").read_text())
        for text in texts:
            assert len(text) < 500_000
            assert not any(word.startswith("::") for word in text.split())
            assert all(c.isprintable() or c in "\n\t" for c in text)
            assert "##[" not in text


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
