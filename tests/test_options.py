"""The kinds of values, the defaults that a project sets, and the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import enter, invoke

from dlsys_bench.errors import UserError
from dlsys_bench.options.kinds import Choice, File, Flag, Folder, Integer, Kind, Many, Number, Text
from dlsys_bench.options.reference import reference_page
from dlsys_bench.options.settings import project_defaults, pytest_defaults

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "options.md"
CHANCE = Number(above=0, below=1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def write(project: Path, table: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.dlsys_bench]\n{table}\n")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Text(), "a", "a"),
        (Flag(), True, True),
        (Integer(1), "3", 3),
        (Integer(1), 3, 3),
        (CHANCE, "0.5", 0.5),
        (Choice(("a", "b")), "b", "b"),
        (File(), "a.txt", Path("a.txt")),
        (Folder(), "a", Path("a")),
        (Many(Integer(1), "sizes"), 3, (3,)),
        (Many(Integer(1), "sizes"), [3, 4], (3, 4)),
    ],
)
def test_a_kind_reads_what_it_takes(kind: Kind, value: Any, expected: Any) -> None:
    assert kind.read(value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text(), 3),
        (Flag(), "yes"),
        (Integer(1), 0),
        (Integer(1), "x"),
        (Integer(1), True),
        (Integer(1), 1.5),
        (CHANCE, 1),
        (CHANCE, 0.0),
        (Number(minimum=0.1), 0.05),
        (Choice(("a", "b")), "c"),
        (File(exists=True), "missing.txt"),
        (File(), "."),
        (Many(Integer(1), "sizes"), [3, 0]),
    ],
)
def test_a_kind_refuses_other_values(kind: Kind, value: Any) -> None:
    assert kind.takes
    with pytest.raises(ValueError):
        kind.read(value)


def test_a_project_sets_defaults_of_all_commands_and_of_one(project: Path) -> None:
    write(
        project,
        'engine = ["torch", "numba"]\nmax-seeds = 8\n'
        "calibrate.seeds = 30\nbench.sweep.batch-size = 32\ngate.max-seeds = 9",
    )
    below = project / "a" / "b"
    below.mkdir(parents=True)
    found = project_defaults(below)
    assert found["run"] == {"engines": ("torch", "numba")}
    assert found["calibrate"] == {"engines": ("torch", "numba"), "seeds": 30}
    assert found["gate"] == {"engines": ("torch", "numba"), "max_seeds": 9}
    assert found["pytest"] == {"engines": ("torch", "numba"), "max_seeds": 8}
    assert found["bench sweep"]["batch_sizes"] == (32,)
    assert found["conform"] == {"engine": "torch"}
    assert "report" not in found


def test_paths_are_relative_to_the_file_that_sets_them(project: Path) -> None:
    write(project, 'data-dir = "data"\nrun.output = "runs.jsonl"\nlook.output = "/pictures"')
    (project / "below").mkdir()
    found = project_defaults(project / "below")
    assert found["run"] == {"data_dir": str(project / "data"), "output": project / "runs.jsonl"}
    assert found["look"]["output"] == Path("/pictures")


def test_the_command_line_takes_the_defaults_of_the_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, 'tier = "full"\nbench.sweep.seconds = 7')
    assert "[default: full]" in invoke("gate", "--help").stdout
    assert "default: 7" in invoke("bench", "sweep", "--help").stdout
    monkeypatch.setenv("DLSYS_BENCH_ENGINE", "nunpy")
    write(project, 'engine = "numba"')
    run = ("run", "eggholder", "--dataset", "eggholder")
    assert "unknown engine 'nunpy'" in invoke(*run, code=2).stderr
    assert "unknown engine 'nunba'" in invoke(*run, "--engine", "nunba", code=2).stderr


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("tire = 'full'", "[tool.dlsys_bench] has an unknown key 'tire' (did you mean \"tier\"?)"),
        ("seeds = 3", "[tool.dlsys_bench] has an unknown key 'seeds'"),
        (
            "run.sed = 3",
            "[tool.dlsys_bench.run] has an unknown key 'sed' (did you mean \"seeds\"?)",
        ),
        ("bench.swep.seconds = 3", "[tool.dlsys_bench.bench] has an unknown key 'swep'"),
        ("tier = 'slow'", "[tool.dlsys_bench] tier is 'slow'; expected quick or full"),
        (
            "gate = 5",
            "[tool.dlsys_bench] gate is 5; expected a table, as in [tool.dlsys_bench.gate]",
        ),
        ("engine = []", "[tool.dlsys_bench] engine is an empty list; expected at least one value"),
        ("engine.name = 'numpy'", "[tool.dlsys_bench] engine is a table; expected a value"),
        ("gate.beta = 2", "[tool.dlsys_bench.gate] beta is 2; expected a number between 0 and 1"),
        ("tier = ", "cannot read"),
    ],
)
def test_a_mistake_in_the_file_of_the_project_is_one_line(
    project: Path, table: str, message: str
) -> None:
    write(project, table)
    with pytest.raises(UserError) as error:
        project_defaults(project)
    assert message in str(error.value)
    assert str(project / "pyproject.toml") in str(error.value)
    assert invoke("list", "engines", code=2).stderr == f"dlsys-bench: {error.value}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tool = 3", "tool is 3; expected a table, as in [tool.dlsys_bench]"),
        ("[tool]\ndlsys_bench = 3", "dlsys_bench is 3; expected a table"),
    ],
)
def test_a_value_in_place_of_the_table_is_one_line(project: Path, text: str, message: str) -> None:
    (project / "pyproject.toml").write_text(text)
    for read in (project_defaults, pytest_defaults):
        with pytest.raises(UserError) as error:
            read(project)
        assert message in str(error.value)


def test_a_project_without_a_table_sets_nothing(project: Path) -> None:
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert project_defaults(project) == {}


def test_the_reference_page_is_current() -> None:
    """`python -m dlsys_bench.options.reference > docs/reference/options.md` writes it."""
    assert PAGE.read_text(encoding="utf-8") == reference_page()
