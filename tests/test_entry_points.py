"""Tables that entry points extend: what is left out, what clashes, and what is not imported."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from importlib.metadata import entry_points as metadata_points
from pathlib import Path

import pytest

from dlsys_bench import entry_points
from dlsys_bench.data import datasets
from dlsys_bench.engines import registry
from dlsys_bench.entry_points import EntryPointWarning, collect, declared
from dlsys_bench.errors import EngineError, UserError
from dlsys_bench.options.option import PYTEST
from dlsys_bench.options.settings import pytest_defaults
from dlsys_bench.report.plots.table import plots
from dlsys_bench.studies.registry import models, studies

GROUP = "dlsys_bench.studies"
table = import_module("dlsys_bench.options.commands")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of distributions: `one` and `two` register the name "same", `broken` cannot be
    imported, `wrong` refers to a number, and `fine` registers a study and an engine."""
    for name, target in (
        ("one", "one_plugin:TABLE"),
        ("two", "two_plugin:TABLE"),
        ("broken", "broken_plugin:TABLE"),
        ("wrong", "wrong_plugin:TABLE"),
        ("fine", "fine_plugin:TABLE"),
    ):
        info = tmp_path / name / f"{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")
        (tmp_path / name / f"{name}_plugin.py").write_text(f"TABLE = {{'same': {name!r}}}\n")
    (tmp_path / "broken" / "broken_plugin.py").write_text("raise RuntimeError('no GPU here')\n")
    (tmp_path / "wrong" / "wrong_plugin.py").write_text("TABLE = 3\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def points(folder: Path, *names: str) -> EntryPoints:
    """The entry points of some distributions, which become importable."""
    from importlib.metadata import distributions

    sys.path[:0] = [str(folder / name) for name in names]
    found = [
        point for dist in distributions(path=sys.path[: len(names)]) for point in dist.entry_points
    ]
    return EntryPoints(found)


def use(monkeypatch: pytest.MonkeyPatch, found: EntryPoints) -> None:
    monkeypatch.setattr(entry_points, "entry_points", lambda group: found.select(group=group))


def test_records_of_entry_points_extend_the_built_in_ones(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, points(installed, "fine"))
    assert collect(GROUP, {"own": "built in"}, str) == {"own": "built in", "same": "fine"}


def test_a_clash_names_both_packages(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, points(installed, "one", "two"))
    with pytest.raises(UserError, match=r"'same' .* both one \(one = .*\) and two \(two = .*\)"):
        collect(GROUP, {}, str)
    with pytest.raises(UserError, match="both dlsys_bench itself and one"):
        collect(GROUP, {"same": "built in"}, str)
    with pytest.raises(UserError, match="both dlsys_bench itself and one"):
        declared(GROUP, {"one": "built in"})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("broken", "RuntimeError: no GPU here"), ("wrong", "not a mapping from names to str")],
)
def test_a_broken_entry_point_is_one_warning(
    name: str, reason: str, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, points(installed, name, "fine"))
    with pytest.warns(EntryPointWarning, match=rf"{name} = .*left out: .*{reason}") as caught:
        assert collect(GROUP, {}, str) == {"same": "fine"}
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)


def test_an_engine_of_a_package_that_is_missing_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("theirs", "no_such_package.engine:Engine", registry.GROUP)
    use(monkeypatch, EntryPoints([point]))
    registry.engines.cache_clear()
    try:
        assert "no_such_package" in (registry.unavailable("theirs") or "")
        with pytest.raises(EngineError, match='"theirs" is not installed'):
            registry.create("theirs")
    finally:
        registry.engines.cache_clear()


def test_an_engine_without_a_class_is_left_out_and_its_package_named(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point,) = points(installed, "fine")
    bare = EntryPoint("bare", "fine_plugin", registry.GROUP)
    vars(bare)["dist"] = point.dist
    use(monkeypatch, EntryPoints([bare]))
    registry.engines.cache_clear()
    try:
        with pytest.warns(EntryPointWarning, match=r"fine \(bare = fine_plugin\).*Class"):
            assert "bare" not in registry.engines()
    finally:
        registry.engines.cache_clear()


COMMAND = """
from dlsys_bench.options.command import Command
COMMAND = Command({name!r}, "nowhere:command", (), "Do nothing.")
"""


@pytest.fixture
def add_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, str, str], None]]:
    """A function that adds an entry point of a command: its name, its module and the source."""
    found: list[EntryPoint] = []

    def add(name: str, module: str, source: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        found.append(EntryPoint(name, f"{module}:COMMAND", table.GROUP))
        clear()

    def clear() -> None:
        table.added.cache_clear()
        table.commands.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    own = metadata_points(group=table.GROUP)
    monkeypatch.setattr(
        entry_points,
        "entry_points",
        lambda group: [*found, *own] if group == table.GROUP else metadata_points(group=group),
    )
    yield add
    clear()


@pytest.mark.parametrize(
    ("name", "source", "reason"),
    [
        ("run", COMMAND.format(name="run"), "both dlsys_bench itself and an unknown package"),
        ("data", COMMAND.format(name="data"), "both dlsys_bench itself and an unknown package"),
        ("claims", COMMAND.format(name="claims"), "both dlsys-bench"),
        ("fresh", COMMAND.format(name="run"), "its command has another name, 'run'"),
        ("no group", COMMAND.format(name="no group"), "there is no group 'no'"),
        ("broken", "raise SystemError('no GPU')", "SystemError: no GPU"),
    ],
)
def test_a_foreign_command_that_cannot_be_used_is_left_out(
    add_command: Callable[[str, str, str], None], name: str, source: str, reason: str
) -> None:
    expected = table.commands()
    add_command(name, "foreign_command", source)
    sys.modules.pop("foreign_command", None)
    with pytest.warns(EntryPointWarning, match=reason) as caught:
        assert table.commands() == expected
    assert len(caught) == 1


def test_the_options_of_pytest_load_no_command_of_a_package(
    add_command: Callable[[str, str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_command("fatal", "fatal_command", "import os; os._exit(3)")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.dlsys_bench.fatal]\nlevel = 3\n[tool.dlsys_bench.pytest]\nmax-seeds = 4"
    )
    add_command("run", "clashing_command", COMMAND.format(name="run"))
    monkeypatch.setattr(entry_points, "LEFT_OUT", {})
    assert table.options_of(PYTEST)
    assert pytest_defaults(tmp_path) == {"max_seeds": 4}
    assert entry_points.LEFT_OUT == {}


def test_a_broken_entry_point_raises_nothing_where_warnings_are_errors(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, points(installed, "wrong", "fine"))
    monkeypatch.setattr(entry_points, "LEFT_OUT", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collect(GROUP, {}, str) == {"same": "fine"}
    assert "wrong = wrong_plugin:TABLE" in str(entry_points.LEFT_OUT)


def test_engines_that_exclude_each_other_are_represented_by_the_first() -> None:
    assert registry.one_of_each(["numpy", "keras-jax", "keras"]) == ["numpy", "keras-jax"]
    assert registry.one_of_each(["keras-jax", "keras-jit", "numpy"]) == ["keras-jax", "numpy"]
    assert registry.one_of_each(["keras-jit", "keras"]) == ["keras-jit", "keras"]
    assert registry.one_of_each(registry.ENGINES) == [
        name for name in registry.ENGINES if name != "keras-jax"
    ]


def test_the_notebooks_are_registered() -> None:
    assert "regularization/lenet5-tanh" in studies()
    assert "lenet5-tanh/bn+bn" in models()
    assert {"mnist", "digits", "eggholder"} <= set(datasets())
    assert {"curves", "phase_diagram"} <= set(plots())


def test_the_metadata_name_the_workloads() -> None:
    """From the file, because installed metadata are older until the package is installed again."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for group in ("studies", "models", "datasets"):
        target = project["entry-points"][f"dlsys_bench.{group}"]["workloads"]
        assert EntryPoint("workloads", target, f"dlsys_bench.{group}").load()


def test_loading_the_tables_imports_no_framework() -> None:
    probe = """
    import sys
    from dlsys_bench.data import datasets
    from dlsys_bench.engines.registry import available, engines
    from dlsys_bench.report.plots.table import plots
    from dlsys_bench.studies.registry import models, studies
    assert studies() and models() and datasets() and plots() and engines() and available()
    frameworks = ("numba", "torch", "tensorflow", "keras", "jax")
    print([name for name in frameworks if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(probe)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
