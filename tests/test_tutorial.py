"""The page about gating a training, run from top to bottom as it is printed.

A block whose first line is the name of a file is that file. A `diff` is applied to the file that it
names, and Python without a name shows a part of a file. `pip install` is not run.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import enter
from documented import Fence, fences, missing_line
from test_baseline import train_here

# pytester forgets the modules that an inner run imports, but numpy cannot be imported twice.
import dlsys_bench.plugin.training_gate  # noqa: F401
from dlsys_bench.cli import baseline, calibrate, cli

PAGE = (Path(__file__).parents[1] / "docs" / "gate-a-training.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
UPGRADE = "After an upgrade"
PYTEST = ("-p", "dlsys_bench.plugin", "-p", "no:cacheprovider", "-p", "no:xdist")

Run = Callable[..., str]


def follow(section: str, folder: Path, run: Run) -> Iterator[str]:
    """Follow a section in a folder, and yield the commands that are run."""
    for fence in fences(section):
        if fence.language == "diff":
            apply(fence, folder)
        elif fence.file and fence.language == "python":
            (folder / fence.file).write_text(fence.text)
        elif fence.language == "python":
            texts = [path.read_text() for path in folder.glob("*.py")]
            assert any(fence.text in text for text in texts), f"no file has\n{fence.text}"
        for command, shown in fence.commands() if fence.language == "console" else ():
            words = shlex.split(command)
            if words[:2] == ["pip", "install"]:
                continue
            printed = run(*words)
            line = missing_line(shown, printed)
            assert line is None, f"the page shows {line!r}; {command} prints\n{printed}"
            yield command


def apply(fence: Fence, folder: Path) -> None:
    """Replace the lines of a diff that begin with - by those that begin with +."""
    assert fence.file
    path = folder / fence.file
    old, new = ("".join(re.findall(rf"^\{sign}(.*\n)", fence.text, re.M)) for sign in "-+")
    text = path.read_text()
    assert text.count(old) == 1, f"{fence.file} has not\n{old}"
    path.write_text(text.replace(old, new))


def test_the_tutorial_prints_what_it_shows(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "train_jobs", train_here)
    monkeypatch.setattr(calibrate, "train_jobs", train_here)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(program: str, *arguments: str) -> str:
        # As each command in a process of its own, this one has not imported the modules.
        enter(pytester.path, monkeypatch)
        for name in ("train", "test_accuracy"):
            sys.modules.pop(name, None)
        if program == "pytest":
            return str(pytester.runpytest_inprocess(*PYTEST, *arguments).stdout)
        result = CliRunner().invoke(cli, arguments)
        assert isinstance(result.exception, SystemExit | None), result.output
        return result.stdout + result.stderr

    programs = [shlex.split(each)[0] for each in follow(SECTIONS["Tutorial"], pytester.path, run)]
    assert programs.count("pytest") == 3
    assert programs.count("dlsys-bench") == 5


def run_process(folder: Path, program: str, *arguments: str) -> str:
    """Run a command of the page in a process, with the programs of this Python."""
    module = {"pytest": ["-m", "pytest", *PYTEST], "dlsys-bench": ["-m", "dlsys_bench"]}
    done = subprocess.run(
        [sys.executable, *module.get(program, []), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_page_prints_what_it_shows(tmp_path: Path) -> None:
    for module in ("sklearn", "torch"):
        pytest.importorskip(module, reason=f"the page uses {module}")
    sections = (text for name, text in SECTIONS.items() if name != UPGRADE)

    def run(*words: str) -> str:
        return run_process(tmp_path, *words)

    commands = [each for section in sections for each in follow(section, tmp_path, run)]
    assert len(commands) > 12


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="environments have another layout on Windows")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="scikit-learn 1.4.2 has no wheel for it")
def test_an_upgrade_of_scikit_learn_is_found(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])

    def run(*words: str) -> str:
        program, *arguments = (root if word == "dlsys-bench" else word for word in words)
        path = sys.executable if program == "python" else str(tmp_path / program)
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [path, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            env=environment,
        )
        if program.endswith("/pip") and done.returncode:
            pytest.skip(f"no package index: {done.stderr[-200:]}")
        return done.stdout + done.stderr

    assert len(list(follow(SECTIONS[UPGRADE], tmp_path, run))) == 8


def test_a_page_that_shows_something_else_is_found(tmp_path: Path) -> None:
    section = "```console\n$ pytest\n2 passed\n```\n"
    with pytest.raises(AssertionError, match="the page shows '2 passed'"):
        list(follow(section, tmp_path, lambda *_: "1 passed"))
    with pytest.raises(AssertionError, match="no file has"):
        list(follow("```python\nx = 1\n```\n", tmp_path, lambda *_: ""))
    (tmp_path / "a.py").write_text("x = 1\ny = 2\n")
    diff = "```diff\n# a.py\n-x = 1\n+x = 3\n```\n"
    assert not list(follow(diff, tmp_path, lambda *_: ""))
    assert (tmp_path / "a.py").read_text() == "x = 3\ny = 2\n"
    with pytest.raises(AssertionError, match="a.py has not"):
        list(follow(diff, tmp_path, lambda *_: ""))
