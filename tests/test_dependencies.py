"""Every module that is imported is declared, and a part that is not installed is named in one
line."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parsed import nodes, one_worker

from dlsys_bench.engines.registry import ENGINES
from dlsys_bench.extras import EXTRAS, PURPOSES, advice

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS = {"parts", "engines", "all", "docs", "browser", "test", "dev"}
"""Extras that are no part and no engine."""

GENERATED = {"engines_of_a_test"}
"""Modules that tests write."""

MODULES = {
    "nvidia-ml-py": "pynvml",
    "pytest-benchmark": "pytest_benchmark",
    "pytest-xdist": "xdist",
    "scikit-learn": "sklearn",
    "tensorflow-cpu": "tensorflow",
}
"""The module of each distribution whose name differs."""


def modules(requirements: list[str]) -> set[str]:
    """Return the modules of requirements, without those that name this package."""
    names = (re.split(r"[^A-Za-z0-9-]", requirement)[0] for requirement in requirements)
    return {MODULES.get(name, name) for name in names if name != "dlsys-bench"}


def imports(path: Path) -> Iterator[str]:
    """Yield the third-party modules that a file imports."""
    for node in nodes(path):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for module in {name.partition(".")[0] for name in names}:
            if module not in sys.stdlib_module_names and module != "dlsys_bench":
                yield module


CORE = modules(PROJECT["dependencies"])
OPTIONAL = {
    extra: modules(requirements) for extra, requirements in PROJECT["optional-dependencies"].items()
}


@one_worker
def test_every_import_of_the_package_is_declared() -> None:
    declared = CORE.union(*(OPTIONAL[extra] for extra in OPTIONAL.keys() - {"test", "dev"}))
    offenders = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sorted((ROOT / "dlsys_bench").rglob("*.py"))
        for module in imports(path)
        if module not in declared
    ]
    assert not offenders, offenders


@one_worker
def test_every_import_of_tests_and_benchmarks_is_declared() -> None:
    declared = CORE.union(GENERATED, *OPTIONAL.values())
    own = {
        path.stem
        for folder in ("tests", "benchmarks", "docs")
        for path in (ROOT / folder).rglob("*")
    }
    offenders = [
        f"{path.relative_to(ROOT)} imports {module}"
        for folder in ("tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for module in imports(path)
        if module not in declared | own
    ]
    assert not offenders, offenders


def test_the_table_of_extras_is_that_of_the_project() -> None:
    engines = {module for entry in ENGINES.values() for module in entry.needs}
    parts = {
        extra: found
        for extra, found in OPTIONAL.items()
        if extra not in GROUPS and not found <= engines
    }
    assert {extra: set(found) for extra, found in EXTRAS.items()} == parts
    assert PURPOSES.keys() == EXTRAS.keys()


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_advice_names_the_extra(extra: str) -> None:
    for module in EXTRAS[extra]:
        assert advice(ImportError(name=f"{module}.part")) == (
            f"{PURPOSES[extra]} needs {module}: pip install 'dlsys-bench[{extra}]'"
        )
    assert advice(ImportError(name="another")) is None


HIDE = "import sys\nfor module in {modules}:\n    sys.modules[module] = None\n"

COMMANDS = """
import sys
from dlsys_bench.cli import main

for line in open("commands.txt"):
    sys.argv = ["dlsys-bench", *line.split()]
    try:
        main()
    except SystemExit as end:
        print("CODE", end.code or 0, file=sys.stderr)
    else:
        print("CODE 0", file=sys.stderr)
"""


NEEDS = {
    "list": None,
    "run regularization/fashion-mlp/vanilla --dataset digits --seeds 1": None,
    "gate perceptron/nb2/hinge": None,
    "report reports/runs.db": "report",
    "look digits": "report",
    "conform --engine numpy": "conformance",
    "data fetch mnist": "data",
    "calibrate eggholder --seeds 1 --cluster tcp://127.0.0.1:1": "cluster",
}
"""The extra that each command needs, if one."""


# One process runs all commands, for one worker of pytest-xdist.
@pytest.mark.xdist_group("core")
@pytest.mark.parametrize(("command", "extra"), NEEDS.items())
def test_a_command_runs_or_names_what_it_needs(
    said: dict[str, tuple[int, str]], command: str, extra: str | None
) -> None:
    code, lines = said[command]
    assert "Traceback" not in lines
    if extra is None:
        assert code in (0, 3), lines
    else:
        assert code == 2, lines
        assert lines.count("\n") == 1
        assert lines.endswith(f"pip install 'dlsys-bench[{extra}]'\n")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """The exit code and the standard error of each command, in an environment without extras."""
    commands = list(NEEDS)
    folder = tmp_path_factory.mktemp("core")
    hidden = sorted(module for found in EXTRAS.values() for module in found)
    (folder / "sitecustomize.py").write_text(HIDE.format(modules=hidden))
    (folder / "commands.txt").write_text("\n".join(commands))
    (folder / "commands.py").write_text(COMMANDS)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "DLSYS_BENCH_DATA": "",
        "XDG_CACHE_HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "commands.py"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    parts = re.split(r"CODE (\d)\n", done.stderr)
    assert len(parts) == 2 * len(commands) + 1, done.stderr
    return {
        command: (int(code), lines)
        for command, lines, code in zip(commands, parts[::2], parts[1::2], strict=False)
    }


@pytest.mark.parametrize(
    ("hidden", "command"),
    [
        ("conformance", "report {runs} --output out"),
        ("report", "conform --check loss/hinge"),
    ],
)
def test_a_part_does_without_the_others(hidden: str, command: str, tmp_path: Path) -> None:
    """As after `make demo`, which installs the core and one extra."""
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(modules=sorted(EXTRAS[hidden])))
    runs = ROOT / "reports" / "reference" / "batch-size-sweep.digits.quick.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "dlsys_bench", *command.format(runs=runs).split()],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


OTHER_PLUGIN = """
import pytest

class Fixture:
    def pedantic(self, target, rounds, warmup_rounds):
        for _ in range(rounds):
            target()

@pytest.fixture
def benchmark():
    return Fixture()
"""
STEPS = """
losses = iter(range(100, 0, -1))

def test_step(train_benchmark):
    train_benchmark(lambda: next(losses), samples=1, steps=2, rounds=3)
"""


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ((), "needs pytest_benchmark: pip install 'dlsys-bench[benchmarks]'"),
        # Another plugin that offers the fixture is used.
        (("-p", "other_plugin"), "1 passed"),
    ],
)
def test_the_fixture_of_benchmarks_names_what_it_needs(
    plugins: tuple[str, ...], message: str, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(STEPS, other_plugin=OTHER_PLUGIN)
    hidden = pytester.mkdir("hidden")
    (hidden / "sitecustomize.py").write_text(HIDE.format(modules=["pytest_benchmark"]))
    environment = {
        "PYTHONPATH": os.pathsep.join([str(hidden), *sys.path]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-p", "dlsys_bench.plugin"],
        cwd=pytester.path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert message in done.stdout
    assert "Traceback" not in done.stdout
