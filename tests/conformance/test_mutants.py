"""Every mutant fails the check that is recorded to detect it, and its healthy twin passes.

Full climbs, which show that no lower rung detects a mutant, are in the slow tier;
`python -m mutants` writes the whole matrix.
"""

from __future__ import annotations

import builtins
import dis
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import CodeType

import mutants
import pytest
from mutants import MUTANTS, Mutant, matrix, reach
from mutants.detection import MANY, Detection, detect, detect_all, runner
from mutants.loader import ALIAS
from mutants.matrix import markdown, read, summary, write
from mutants.mutant import CLASSES, ENGINES, Edit
from mutants.reach import Reach, add_probes, find_reach

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.runner import LocalRunner
from dlsys_bench.conformance.trial import Options
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError

# The example count ends a search, not the time, so that a loaded machine finds the same; and the
# first failing example is enough.
SHORT = Options(examples=25, budget=60.0, shrink=0.0)

KILLED = [mutant for mutant in MUTANTS.values() if mutant.check is not None]


def _param(mutant: Mutant) -> object:
    """A mutant as a parameter. Those that only trainings to an accuracy reveal take ten seconds;
    test_distribution.py has a quick one."""
    slow = mutant.rung == "distribution"
    mark = pytest.mark.slow if slow else pytest.mark.rotates("mutants", 12)
    return pytest.param(mutant, id=mutant.name, marks=mark)


@functools.cache
def _healthy(package: str) -> LocalRunner:
    return runner(f"healthy_{package}", SHORT)


@pytest.mark.parametrize("mutant", [_param(mutant) for mutant in KILLED])
def test_the_recorded_check_detects_the_mutant(mutant: Mutant) -> None:
    if reason := unavailable(mutant.package):
        pytest.skip(reason)
    assert mutant.check is not None
    result = runner(mutant.name, SHORT).run(mutant.check)
    assert result.status is Status.FAILED, f"{mutant.name} survived: {mutant.what}"
    assert result.finding is not None
    assert result.replay is not None
    assert f"{mutants.__name__}:{mutant.name} --check {mutant.check}" in result.replay


TWINS = sorted({(mutant.package, str(mutant.check), mutant.rung) for mutant in KILLED})


@pytest.mark.parametrize(
    ("package", "check"),
    [
        pytest.param(
            package,
            check,
            id=f"{package}-{check}",
            marks=pytest.mark.slow
            if rung == "distribution"
            else pytest.mark.rotates("healthy twins", 12),
        )
        for package, check, rung in TWINS
    ],
)
def test_the_healthy_twin_passes_the_check(package: str, check: str) -> None:
    if reason := unavailable(package):
        pytest.skip(reason)
    result = _healthy(package).run(check)
    assert result.status is Status.PASSED, result.message()


@functools.cache
def _reach(package: str) -> Reach:
    return find_reach(package, SHORT)


@pytest.mark.slow(in_share=False)
@pytest.mark.parametrize("mutant", KILLED, ids=lambda mutant: mutant.name)
def test_a_full_climb_detects_the_mutant_on_its_rung(
    mutant: Mutant, request: pytest.FixtureRequest
) -> None:
    if reason := unavailable(mutant.package):
        pytest.skip(reason)
    name = request.function.__name__
    climbs = sum(item.name.startswith(f"{name}[") for item in request.session.items)
    found = detect(mutant.name, SHORT, _reach(mutant.package) if climbs >= MANY else None)
    assert (found.check and found.found) == mutant.rung, found.message


FILE = '''"""A file."""

from __future__ import annotations

SCALE = 2


def scaled(x, ready):
    if ready:
        return x * SCALE
    elif x > 3:
        return x
    total = (
        x
        + SCALE
    )
    return total
'''


@pytest.mark.parametrize(
    ("old", "before"),
    [
        ("x * SCALE", "return x * SCALE"),
        ("x > 3", "if x > 3:"),
        ("+ SCALE", "total = x + SCALE"),
        ("return x\n    total", "if ready:"),
        ("SCALE = 2", None),
        ("(x, ready)", None),
    ],
)
def test_a_probe_stands_before_the_statement_that_is_replaced(
    old: str, before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = Mutant("found", "A mistake.", "shapes/quiet", "file", old, "")
    monkeypatch.setattr(reach, "MUTANTS", {"found": mutant})
    lines = [line.strip() for line in add_probes("numpy", "file.py", FILE).splitlines()]
    probe = "_reached.add('found')"
    assert (lines[lines.index(probe) + 1] if probe in lines else None) == before


def test_a_check_reaches_what_it_runs() -> None:
    found = find_reach("numpy", SHORT, ["gradient/tanh", "forward/tanh"])
    assert found["tanh_derivative"] == {"gradient/tanh"}
    assert "huber_delta_not_multiplied" not in found  # Its edit is outside of functions.


def test_every_edit_applies() -> None:
    for mutant in MUTANTS.values():
        assert _compiled(mutant)
        assert mutant.old != mutant.new, mutant.name
        assert mutant.what.endswith("."), mutant.name
        assert (mutant.check is None) == (mutant.survives is not None), mutant.name
        assert mutant.name.isidentifier(), mutant.name


@functools.cache
def _globals_before(package: str, file: str) -> set[str]:
    original = (ENGINES / package / file).read_text(encoding="utf-8")
    return _globals(compile(original, file, "exec"))


def _globals(code: CodeType) -> set[str]:
    """Return the names that the code reads as globals, with those of the functions in it."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_globals(one) for one in code.co_consts if isinstance(one, CodeType)))


@functools.cache
def _compiled(mutant: Mutant) -> CodeType:
    return compile(mutant.source(), mutant.edit.file, "exec")


def test_no_edit_reads_a_name_that_the_file_does_not_define() -> None:
    """A NameError fails any check, whatever the mistake that the mutant is to make."""
    for mutant in MUTANTS.values():
        before = _globals_before(mutant.package, mutant.edit.file)
        after = _compiled(mutant)
        assert _globals(after) - before <= {*dir(builtins), *after.co_names}, mutant.name


def test_every_rung_has_a_mutant() -> None:
    assert len(MUTANTS) >= 70
    assert {mutant.rung for mutant in KILLED} == set(RUNGS)
    assert sum(mutant.package == "torch" for mutant in KILLED) >= 12


def test_loading_a_mutant_leaves_the_original_engine_unchanged() -> None:
    engine = create(f"{mutants.__name__}:max_pool_ties_last", "cpu", "float64")
    assert type(engine).__module__ == f"{ALIAS}.max_pool_ties_last.engine"
    assert type(create("numpy")).__module__ == "dlsys_bench.engines.numpy.engine"
    pooling = sys.modules[f"{ALIAS}.max_pool_ties_last.pooling"]
    assert pooling is not sys.modules["dlsys_bench.engines.numpy.pooling"]
    assert mutants.max_pool_ties_last is mutants.max_pool_ties_last


def test_an_unknown_name_raises_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        mutants.nobody  # noqa: B018
    with pytest.raises(EngineError, match="has no 'nobody'"):
        create(f"{mutants.__name__}:nobody")


@pytest.mark.parametrize(("old", "count"), [("x", 2), ("z", 0)])
def test_an_edit_that_does_not_apply_once_raises_an_error(old: str, count: int) -> None:
    with pytest.raises(EngineError, match=f"contains the text to be replaced {count} times"):
        Edit("dense.py", old, "y").apply("x + x")


def test_the_matrix_shows_the_rung_that_detects_each_mutant(tmp_path: Path) -> None:
    every = [
        Detection("flatten_channel_first", "forward/flatten", "forward/flatten"),
        Detection("dense_dx_of_magnitudes", "gradient/dense", "gradient/dense"),
        Detection("tanh_derivative", "gradient/tanh"),
        Detection("torch_adamw", "step/adam", reason="no torch"),
        Detection("prints", "shapes/quiet", "loss/hinge", 1.0, "a | b"),
        Detection("dropout_wears_off", None),
    ]
    assert summary(every) == (
        "3 of 4 mutants detected; 1 skipped; survived: tanh_derivative; "
        "known to survive: dropout_wears_off; "
        "detected on another rung than expected: prints (in loss)"
    )
    table = markdown(every, SHORT)
    assert "| flatten_channel_first | · | **X** |  |" in table
    assert "| prints | · | · | · | (X) |" in table
    assert "a \\| b" in table
    write(tmp_path / "mutants", every, SHORT)
    values = json.loads((tmp_path / "mutants.json").read_text())
    assert values["mutants"][0]["check"] in CHECKS
    assert values["mutants"][0]["expected"] == "forward"
    assert (tmp_path / "mutants.md").read_text() == table


def test_detections_on_another_ladder_are_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "mutants"
    write(report, [Detection("prints", "shapes/quiet", "shapes/quiet")], SHORT)
    assert list(read(report, SHORT)) == ["prints"]
    assert read(report, SHORT._replace(examples=26)) == {}
    with monkeypatch.context() as patch:
        patch.setattr(matrix, "CHECKS", {"shapes/quiet": CHECKS["shapes/quiet"]})
        assert read(report, SHORT) == {}


@pytest.mark.slow
def test_mutants_climb_in_parallel_processes() -> None:
    names = ["flatten_channel_first", "dense_dx_of_magnitudes"]
    found = sorted(detect_all(names, SHORT, jobs=2), key=lambda one: names.index(one.name))
    assert [one.found for one in found] == ["forward", "gradient"]


@pytest.mark.slow
def test_the_command_writes_the_matrix(tmp_path: Path) -> None:
    args = ["flatten_channel_first", "--examples", "5", "--output", str(tmp_path)]
    command = [sys.executable, "-m", mutants.__name__, *args]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert "1 of 1 mutants detected; none survived" in done.stdout
    assert (tmp_path / "mutants.md").exists()


def test_both_packages_have_a_healthy_twin() -> None:
    assert {package for package, *_ in TWINS} == set(CLASSES)
