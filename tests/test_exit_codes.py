"""An error never ends a command with the exit code of a verdict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import enter, invoke

from dlsys_bench import cli
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import EngineError
from dlsys_bench.options.command import Command
from dlsys_bench.options.commands import BUILT_IN, options_of
from dlsys_bench.options.kinds import File
from dlsys_bench.options.stored_table import PAGES

ENGINES = """
from dlsys_bench.engines.numpy import NumpyEngine
class NoEngine:
    def __init__(self, device, dtype): pass
class CannotBeMade(NumpyEngine):
    def __init__(self, *args): raise RuntimeError("no driver")
class CannotTrain(NumpyEngine):
    def fit(self, net, samples, recipe, plan):
        raise ValueError("no such axis")
        yield
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "exit_code_engines.py").write_text(ENGINES)
    (tmp_path / "raises_on_import.py").write_text("raise RuntimeError('first\\nsecond')\n")
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(1)\n")


def test_an_uncaught_exception_ends_with_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(**options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.cli, "main", crash)
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 70
    stderr = capsys.readouterr().err
    assert "RuntimeError: a bug" in stderr
    assert "internal error" in stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError("Unable to allocate 9 EiB"), "out of memory: Unable to allocate 9 EiB"),
        (MemoryError(), "out of memory: this process needs more"),
    ],
)
def test_a_lack_of_memory_is_one_line_and_exit_code_2(
    error: MemoryError,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def allocate(**options: object) -> None:
        raise error

    monkeypatch.setattr(cli.cli, "main", allocate)
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 2
    assert capsys.readouterr().err == f"dlsys-bench: {line}\n"


@pytest.mark.parametrize(
    "options",
    [
        ("conform", "--engine", "numpy", "--budget"),
        ("conform", "--engine", "numpy", "--seconds"),
        ("power", "--alpha"),
        ("gate", "perceptron", "--smallest-shift"),
    ],
)
def test_an_option_that_is_a_number_takes_no_nan(options: tuple[str, ...]) -> None:
    done = invoke(*options, "nan", code=2)
    assert f"Invalid value for '{options[-1]}': " in done.stderr


@pytest.mark.parametrize("command", ["run", "gate"])
def test_an_error_in_an_engine_of_others_names_it(command: str) -> None:
    """It is no error of this package, whose exit code is 70."""
    name = "exit_code_engines:CannotTrain"
    done = invoke(command, "regularization/fashion-mlp/vanilla", "--engine", name, code=2)
    assert done.stderr.splitlines()[-1] == (
        f'dlsys-bench: a training with engine "{name}" raised ValueError: no such axis at '
        f"exit_code_engines.py:9; `dlsys-bench conform --engine {name}` checks the engine"
    )


def test_an_engine_that_inherits_from_numpy_cannot_run_the_loops_of_notebooks() -> None:
    """They do not call the engine, whose mistakes would pass."""
    name = "exit_code_engines:CannotTrain"
    done = invoke("run", "perceptron/nb2/hinge", "--engine", name, code=2)
    assert f'engine "{name}" cannot run it' in done.stderr


def test_the_help_names_the_exit_codes() -> None:
    assert "70 internal error" in " ".join(invoke("--help").stdout.split())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("raises_on_import:Engine", "cannot import 'raises_on_import': RuntimeError: first second"),
        ("exits_on_import:Engine", "cannot import 'exits_on_import': SystemExit: 1"),
        ("exit_code_engines:NoEngine", "is not a subclass of dlsys_bench.engines.base.Engine"),
        ("exit_code_engines:CannotBeMade", "cannot be created: RuntimeError: no driver"),
    ],
)
def test_an_engine_that_cannot_be_loaded_is_one_line_and_exit_code_2(
    target: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        create(target)
    done = invoke("gate", "perceptron", "--engine", target, code=2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("exit_code_engines:CannotBeMade", "cannot be created: RuntimeError: no driver"),
        ("torch-tf32", "has no device 'cpu'"),
    ],
)
def test_conform_reports_an_engine_that_cannot_be_created_with_exit_code_2(
    engine: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.startswith("torch"):
        pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    done = invoke("conform", "--engine", engine, code=2)
    assert message in done.stderr
    assert done.stdout == ""


GOOD = {
    "good.json": json.dumps({"benchmarks": [{"fullname": "a", "stats": {"data": [1.0] * 9}}]}),
    "training_of_a_test.py": "def train(seed):\n    return {'a': 1.0}\n",
}
ARM = "regularization/fashion-mlp/vanilla"
SMALL = ("bench", "sweep", "eggholder", "--engine", "numpy")
TIMED = ("bench", "time-to-accuracy", "regularization/lenet5-tanh", "--dataset", "digits")
READING: dict[str, tuple[str, ...]] = {
    "summary model": ("summary", "bad.json"),
    "history files": ("history", "bad.jsonl"),
    "look dataset": ("look", "bad.npz"),
    "inspect weights": ("inspect", "bad.npz"),
    "run dataset": ("run", ARM, "--dataset", "bad.npz"),
    "gate dataset": ("gate", ARM, "--dataset", "bad.npz"),
    "gate reference": ("gate", "training_of_a_test:train", "--reference", "bad.jsonl"),
    "gate evidence": ("gate", ARM, "--evidence", "bad.jsonl", "--commit", "c"),
    "power reference": ("power", "training_of_a_test:train", "--reference", "bad.jsonl"),
    "baseline log reference": (
        *("baseline", "log", "training_of_a_test:train"),
        *("--reference", "bad.jsonl"),
    ),
    "baseline accept reference": (
        *("baseline", "accept", "training_of_a_test:train", "--why", "a change"),
        *("--reference", "bad.jsonl", "--store", "new.db"),
    ),
    "power dataset": ("power", ARM, "--dataset", "bad.npz"),
    "calibrate dataset": ("calibrate", ARM, "--dataset", "bad.npz", "--store", "new.db"),
    "bench time-to-accuracy dataset": (*TIMED[:3], "--dataset", "bad.npz", "--output", "o.jsonl"),
    "report runs": ("report", "bad.jsonl"),
    "runs import files": ("runs", "import", "bad.jsonl"),
    "compare a": ("compare", "bad.jsonl", "bad.jsonl"),
    "conform against": ("conform", "--check", "gradient/dense", "--against", "bad.json"),
    "bench compare a": ("bench", "compare", "bad.json", "good.json"),
    "bench compare b": ("bench", "compare", "good.json", "bad.json"),
    "bench sweep output": (*SMALL, "--output", "bad.jsonl"),
    "bench time-to-accuracy output": (*TIMED, "--output", "bad.jsonl"),
}
"""The commands that read a file, by the argument or the option that names it."""

STORES: dict[str, tuple[str, ...]] = {
    "runs list store": ("runs", "list", "--store", "bad.db"),
    "runs show store": ("runs", "show", "1", "--store", "bad.db"),
    "runs export store": ("runs", "export", "--store", "bad.db"),
    "runs release store": ("runs", "release", "--store", "bad.db"),
    "runs import store": ("runs", "import", "good.jsonl", "--store", "bad.db"),
}
"""The commands that open a store. An empty file is an empty store."""

WRITING = {
    "run output",
    "gate output",
    "gate junit",
    "power output",
    "calibrate output",
    "calibrate store",
    "baseline accept store",
    "runs export output",
    "history csv",
    "history export",
    *(f"{name} html" for name in PAGES),
}
"""The files that commands write. Commands that train or judge append to theirs; tests/runs tries
damaged ones."""

CONTENTS: dict[str, bytes | None] = {
    "an empty file": b"",
    "JSON of another kind": b'{"a": 1}\n',
    "a benchmark without statistics": b'{"benchmarks": [{"fullname": "a", "stats": null}]}\n',
    "bytes": bytes(range(256)) * 8,
    "a folder": None,
}
MORE_CONTENTS: dict[str, bytes | None] = {
    "no JSON": b"hello\n",
    "a list": b"[1, 2]\n",
    "null": b"null\n",
    "a page": b"<!DOCTYPE html><html></html>\n",
    "deep nesting": b"[" * 100_000 + b"\n",
    "zeros": bytes(512),
    "the head of an archive": b"PK\x03\x04" + bytes(200),
    "the head of an array": b"\x93NUMPY\x01\x00v\x00" + bytes(200),
    "the head of a store": b"SQLite format 3\x00" + bytes(2000),
    "the head of a compressed file": b"\x1f\x8b\x08\x00" + bytes(40),
    "UTF-16": "{}".encode("utf-16"),
    "wrong types": b'{"engine": [], "benchmarks": 3, "outcomes": null, "study": 1}\n',
    "huge numbers": b'{"benchmarks": [{"fullname": "a", "stats": {"data": [1e999]}}]}\n',
}


def files_of(name: str, command: Command) -> list[str]:
    arguments = [each.name for each in command.arguments if isinstance(each.kind, File)]
    return arguments + [each.name for each in options_of(name) if isinstance(each.kind, File)]


def test_every_file_of_a_command_is_in_a_table() -> None:
    found = {
        f"{name} {each}" for name, command in BUILT_IN.items() for each in files_of(name, command)
    }
    assert found - WRITING <= READING.keys() | STORES.keys()


def place(path: Path, content: bytes | None) -> None:
    """Put a content in the place of a file; None is a folder."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


def ends_with_an_error(arguments: tuple[str, ...], codes: set[int], name: str) -> None:
    result = CliRunner().invoke(cli.cli, arguments)
    error = result.exception
    assert error is None or isinstance(error, SystemExit), f"{name}: {error!r}"
    assert result.exit_code in codes, f"{name}: exit code {result.exit_code}: {result.output}"
    last = result.stderr.splitlines()[-1] if result.exit_code else ""
    assert not result.exit_code or "bad." in last, f"{name}: {result.stderr}"


def contents(case: str) -> list[Any]:
    """Return the cases of each command: with some contents, and in the slow tier with all."""
    return [
        pytest.param(CONTENTS, id=case),
        pytest.param(CONTENTS | MORE_CONTENTS, id=f"{case}-all", marks=pytest.mark.slow),
    ]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        pytest.param(arguments, *param.values, id=param.id, marks=param.marks)
        for case, arguments in READING.items()
        for param in contents(case)
    ],
)
def test_a_hostile_file_is_an_error_and_no_verdict(
    arguments: tuple[str, ...], found: Mapping[str, bytes | None], tmp_path: Path
) -> None:
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
    bad = next(tmp_path / one for one in arguments if one.startswith("bad."))
    empty_is_none = {"bench", "runs"} & {*arguments} and bad.suffix == ".jsonl"
    for name, content in found.items():
        if content == b"" and empty_is_none:
            continue
        place(bad, content)
        ends_with_an_error(arguments, {2}, name)
        assert bad.is_dir() or bad.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        pytest.param(arguments, *param.values, id=param.id, marks=param.marks)
        for case, arguments in STORES.items()
        for param in contents(case)
    ],
)
@pytest.mark.filterwarnings("ignore:.*bad.db")
def test_a_hostile_store_is_an_error_and_no_verdict(
    arguments: tuple[str, ...], found: Mapping[str, bytes | None], tmp_path: Path
) -> None:
    (tmp_path / "good.jsonl").write_text("")
    for name, content in found.items():
        place(tmp_path / "bad.db", content)
        ends_with_an_error(arguments, {0, 2} if content is not None else {2}, name)


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    for name, text in GOOD.items():
        (tmp_path / name).write_text(text)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    bad.chmod(0)
    if os.access(bad, os.R_OK):
        pytest.skip("this user may read every file")
    for case in ("summary model", "conform against", "bench compare a", "bench compare b"):
        ends_with_an_error(READING[case], {2}, case)
