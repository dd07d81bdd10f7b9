"""The examples of the README and of the documentation.

The fast tier parses every example; the slow tier runs the examples as they are printed.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dlsys_bench.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
    if "generated" not in path.parts
}
DOCUMENTATION = "\n".join(text for page, text in PAGES.items() if page.startswith("docs/"))
EXAMPLE = r"```python\n(?P<text># (?P<name>\w+\.py)\n.*?)```"
FILES = {match["name"]: match["text"] for match in re.finditer(EXAMPLE, DOCUMENTATION, re.DOTALL)}
GATE_PAGE = PAGES["docs/gate-a-training.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_compile(page: str) -> None:
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL), 1):
        compile(text, f"{page}, example {number}", "exec")


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_shown_exist_with_their_options(page: str) -> None:
    for line in re.findall(r"^(?:\$| *- run:) (dlsys-bench .*)$", PAGES[page], re.MULTILINE):
        parse(line)


def parse(line: str) -> dict[str, object]:
    """Return the options of a command line as they are written. Raises click.UsageError."""
    command: click.Command = cli
    words, context = shlex.split(line, comments=True)[1:], click.Context(cli)
    while isinstance(command, click.Group) and words:
        _, found, words = command.resolve_command(context, words)
        assert found is not None, line
        command, context = found, click.Context(found, parent=context)
    options, _, _ = command.make_parser(context).parse_args(words)
    return dict(options)


def test_an_option_that_is_missing_is_noticed() -> None:
    assert ["cpu"] in parse("dlsys-bench bench sweep perceptron --device cpu").values()
    for line in ("dlsys-bench sweep", "dlsys-bench bench swept", "dlsys-bench gate x --no-such 1"):
        with pytest.raises(click.UsageError):
            parse(line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def call(folder: Path, *command: str) -> str:
    """Run a command of the README with the programs of this Python."""
    module = {"pytest": ["pytest", "-p", "dlsys_bench.plugin"], "dlsys-bench": ["dlsys_bench"]}.get(
        command[0]
    )
    arguments = (
        [sys.executable, "-m", *module, *command[1:]] if module else [sys.executable, *command]
    )
    # pytest-benchmark measures nothing in a worker of pytest-xdist, so the inner pytest must not
    # take itself for one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        arguments,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env=env | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_pages_show_what_these_tests_run() -> None:
    assert {
        "digits_mlp.py",
        "test_digits_mlp.py",
        "digits_torch.py",
        "test_digits_torch.py",
        "by_hand.py",
        "tiny.py",
        "test_step.py",
        "collapse.py",
    } <= set(FILES)


@pytest.mark.slow
def test_a_thousand_networks(folder: Path) -> None:
    printed = re.search(r"# (0\.\d+):", FILES["collapse.py"])
    assert printed is not None
    assert call(folder, "collapse.py").strip() == printed[1]


@pytest.mark.slow
def test_the_smallest_engine_conforms(folder: Path) -> None:
    command = re.search(
        r"^\$ (dlsys-bench conform --engine tiny:Tiny)$", DOCUMENTATION, re.MULTILINE
    )
    assert command is not None
    assert "tiny:Tiny conforms" in call(folder, *shlex.split(command[1]))


@pytest.mark.slow
def test_a_step_is_timed_and_two_files_are_compared(folder: Path) -> None:
    pytest.importorskip("torch", reason="pip install 'dlsys-bench[torch]'")
    command = re.search(
        r"^\$ (pytest test_step.py --benchmark-json=before.json)$", DOCUMENTATION, re.MULTILINE
    )
    assert command is not None
    assert "1 passed" in call(folder, *shlex.split(command[1]), "-W", "error")
    # The same file twice: nothing is slower, unless the machine was busy.
    arguments = [
        sys.executable,
        "-m",
        "dlsys_bench",
        "bench",
        "compare",
        "before.json",
        "before.json",
    ]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert "SLOWER" not in done.stdout


def test_the_workflow_is_one_and_its_gate_is_a_command() -> None:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    block = re.search(r"```yaml\n(.*?)```", GATE_PAGE, re.DOTALL)
    assert block is not None
    steps = yaml.safe_load(block[1])["jobs"]["gate"]["steps"]
    (gate,) = [
        shlex.split(step["run"]) for step in steps if "dlsys-bench gate" in step.get("run", "")
    ]
    command = cli.get_command(click.Context(cli), "gate")
    assert command is not None
    context = command.make_context("gate", gate[2:])
    assert (context.params["target"], context.params["tier"]) == (
        "regularization/lenet5-tanh",
        "quick",
    )
    assert str(context.params["junit"]) == steps[-1]["with"]["path"]


def test_links_lead_somewhere() -> None:
    prose = {page: re.sub(r"```.*?```", "", text, flags=re.DOTALL) for page, text in PAGES.items()}
    broken = [
        f"{page}: {target}"
        for page, text in prose.items()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text)
        if not ((ROOT / page).parent / target).exists()
    ]
    assert not broken


def named_definitions(text: str) -> list[tuple[str, str]]:
    """Return (path in the package, name) of each "`module.py` (`NAME`)" in the rows of tables. The
    first cell of a row may name the folder of its modules: "in `engines/numpy/`"."""
    found = []
    for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
        folder = re.search(r"in `([\w/]+/)` \|", row)
        for path, names in re.findall(r"`([\w/]+\.py)` \(([^)]*`)", row):
            whole = f"{folder[1] if folder else ''}{path}"
            found += [(whole, name) for name in re.findall(r"`(\w[\w.]*)`", names)]
    return found


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/extend.md"])
def test_the_tables_of_a_page_name_definitions_that_exist(page: str) -> None:
    named = named_definitions(PAGES[page])
    assert len(named) > 3
    for path, name in named:
        source = (ROOT / "dlsys_bench" / path).read_text(encoding="utf-8")
        definition = rf"^\s*(?:def |class )?{name.rpartition('.')[2]}\b"
        exists = re.search(definition, source, re.MULTILINE) is not None
        assert exists, f"{path} has no {name}"
