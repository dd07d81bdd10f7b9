"""The help, the completion, and how much the commands print."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from command_line import enter, invoke
from results import make_result

from dlsys_bench.cli import cli
from dlsys_bench.cli.completion import NAMES
from dlsys_bench.cli.examination import extras
from dlsys_bench.cli.terminal import say
from dlsys_bench.conformance.check import Check
from dlsys_bench.conformance.ladder import ResultCallback
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.data.files import FileReport, known
from dlsys_bench.options.commands import BUILT_IN, GROUPS, options_of
from dlsys_bench.report.display import progress
from dlsys_bench.runs.store.text import write_text
from dlsys_bench.silence import SILENT, silenced


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_help_of_every_command_has_its_exit_codes(name: str) -> None:
    text = " ".join(invoke(*name.split(), "--help").stdout.split())
    assert "Exit codes: 0" in text
    assert "--quiet" in text
    assert "--verbose" in text


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_help_is_cut_off(group: str) -> None:
    text = invoke(*group.split(), "--help").stdout
    assert "..." not in text.partition("Commands:")[2]
    words = " ".join(text.split())
    assert "Exit codes: 0 pass" in words
    for name, command in BUILT_IN.items():
        parent, _, last = name.rpartition(" ")
        if parent == group:
            sentence = " ".join(command.description.split("\n\n")[0].split())
            assert f"{last} {sentence}" in words
    assert max(map(len, text.splitlines())) <= 80


def complete(*arguments: str) -> list[str]:
    words = list(arguments)
    shell = ShellComplete(cli, {}, "dlsys-bench", "_DLSYS_BENCH_COMPLETE")
    return [item.value for item in shell.get_completions(words[:-1], words[-1])]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("gate", "perc"), "perceptron"),
        (("gate", "regularization/lenet5-tanh/b"), "regularization/lenet5-tanh/bn+bn"),
        (("bench", "sweep", "regul"), "regularization/lenet5-tanh"),
        (("gate", "--engine", "num"), "numpy"),
        (("run", "--dataset", "fash"), "fashion_mnist"),
        (("conform", "--check", "gradient/den"), "gradient/dense"),
        (("conform", "--explain", "gradient/den"), "gradient/dense"),
        (("summary", "len"), "lenet5-tanh/bn+bn"),
        (("data", "fetch", "mni"), "mnist"),
        (("doc",), "doctor"),
    ],
)
def test_completion(arguments: tuple[str, ...], expected: str) -> None:
    assert expected in complete(*arguments)


def test_every_completed_name_is_one_of_the_tables() -> None:
    options = {option.name for name in BUILT_IN for option in options_of(name)}
    arguments = {one.name for command in BUILT_IN.values() for one in command.arguments}
    assert set(NAMES) <= options | arguments


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    for name, seeds in (("a", range(6)), ("b", range(6, 12))):
        write_text(Path(f"{name}.jsonl"), [make_result(seed) for seed in seeds])


@pytest.mark.usefixtures("runs")
def test_quiet_prints_results_and_errors_alone() -> None:
    write_text(Path("c.jsonl"), [make_result(20, arm="other"), make_result(21)])
    loud = invoke("compare", "a.jsonl", "c.jsonl", code=3)
    quiet = invoke("compare", "a.jsonl", "c.jsonl", "--quiet", code=3)
    assert "left out" in loud.stderr
    assert (quiet.stdout, quiet.stderr) == (loud.stdout, "")
    assert not SILENT.get()
    assert "no file" in invoke("compare", "-q", "none.jsonl", "a.jsonl", code=2).stderr


@pytest.mark.usefixtures("runs")
def test_verbose_prints_the_traceback_of_an_error() -> None:
    arguments = ("compare", "none.jsonl", "a.jsonl")
    assert "Traceback" not in invoke(*arguments, code=2).stderr
    assert "Traceback" in invoke(*arguments, "--verbose", code=2).stderr
    logger = logging.getLogger("dlsys_bench")
    assert not logger.handlers
    assert logger.level == logging.NOTSET


def test_progress_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with silenced(), progress(2) as advance:
        advance("one", 1)
    assert capsys.readouterr() == ("", "")


def test_a_bar_leaves_the_lines_and_its_figures_whole_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    remark = "a remark of one line, " * 10
    with progress(5, "gates") as advance:
        advance("regularization/lenet5-tanh/" * 5, 1)
        say(remark)
    printed = capsys.readouterr().err
    assert f"\x1b[2K{remark}" in printed, "the bar is erased before a line"
    lines = re.split(r"\r|\n|\x1b\[[\d;?]*[A-Za-z]", printed)
    assert remark in lines
    assert any("1/5" in line for line in lines)
    assert any(line.endswith("…") and len(line) == 80 for line in lines)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_colours(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if variable:
        monkeypatch.setenv(variable, "1")
    text = invoke("compare", "a.jsonl", "b.jsonl").stdout
    assert ("\x1b[3" in text) == (variable is None)


LONG = {
    "run": "run",
    "gate": "gate",
    "calibrate": "calibrate",
    "conform": "conform",
    "doctor": "doctor",
    "inspect": "inspect",
    "power": "power",
    "report": "report",
    "runs import": "runs",
    "data fetch": "data",
    "bench sweep": "sweep",
    "bench time-to-accuracy": "time_to_accuracy",
}
"""The modules of the commands that may take longer than five seconds."""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The total of each progress that a command shows, and the steps that it advanced by."""
    found: list[tuple[int, int]] = []

    @contextmanager
    def counted(total: int, unit: str = "steps") -> Iterator[Callable[[str, int], None]]:
        advanced: list[int] = []
        yield lambda description, steps: advanced.append(steps)
        found.append((total, sum(advanced)))

    for module in LONG.values():
        monkeypatch.setattr(f"dlsys_bench.cli.{module}.progress", counted)
    yield found
    assert found
    assert all(total == advanced > 0 for total, advanced in found)


@pytest.mark.usefixtures("runs", "steps")
@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "a.jsonl", "--html", "a.html"),
        ("report", "a.jsonl"),
        ("doctor",),
        ("data", "fetch", "digits", "mnist"),
        ("power", "regularization/lenet5-tanh/bn+bn", "--dataset", "digits"),
        ("runs", "import", "a.jsonl", "b.jsonl", "--store", "c.db"),
    ],
)
def test_a_long_command_shows_its_progress(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    report = FileReport("file", Path("file"), "ok", "", None)

    def fetched(name: str, on_file: Callable[[FileReport], None]) -> list[Path]:
        for _ in known(name).files:
            on_file(report)
        return []

    monkeypatch.setattr("dlsys_bench.cli.data.fetch", fetched)
    monkeypatch.setattr("dlsys_bench.cli.examination.EXAMINATIONS", (extras,))
    monkeypatch.setattr("dlsys_bench.cli.doctor.EXAMINATIONS", (extras,))
    invoke(*arguments)


@pytest.mark.usefixtures("runs", "steps")
def test_a_sweep_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dlsys_bench.cli.sweep.sweep",
        lambda points, path, seconds: ((point, "not measured") for point in points),
    )
    invoke("bench", "sweep", "--engine", "numpy", "--output", "speed.jsonl", code=2)


@pytest.mark.usefixtures("runs", "steps")
def test_conform_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    def climbed(
        runners: object, selected: list[Check], beyond: bool, on_result: ResultCallback
    ) -> list[CheckResult]:
        results = [CheckResult.of(check, Status.PASSED) for check in selected]
        for result in results:
            on_result(result)
        return results

    monkeypatch.setattr("dlsys_bench.cli.conform.climb", climbed)
    invoke("conform", "--check", "shapes")
