"""The checks bite: every broken engine is found, on the rung that has to find it, and its healthy
twin is not.

Searches are short here: `python -m mutants` looks as long as a user does, and has the matrix.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from mutants import MUTANTS, Mutant
from mutants.detection import Detection, detect_all, first_failure
from mutants.loader import ALIAS
from mutants.matrix import markdown, summary, write
from mutants.mutant import CLASSES, Edit

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.runner import Options
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.errors import EngineError

SHORT = Options(examples=25, budget=1.0)
GLANCE = Options(examples=4, budget=0.5)
DETERMINISTIC = [rung for rung in RUNGS if rung != "distribution"]
HERE = [
    mutant
    for mutant in MUTANTS.values()
    if mutant.package == "numpy" and mutant.rung in DETERMINISTIC
]


def _named(some: list[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "mutant", [pytest.param(mutant, id=mutant.name) for mutant in some]
    )


def _package(mutant: Mutant) -> None:
    if reason := unavailable(mutant.package):
        pytest.skip(reason)


@_named(list(MUTANTS.values()))
def test_every_edit_applies(mutant: Mutant) -> None:
    compile(mutant.source(), mutant.edit.file, "exec")
    assert mutant.old != mutant.new
    assert mutant.what.endswith(".")
    assert (mutant.rung in RUNGS) if mutant.survives is None else mutant.rung is None
    assert mutant.name.isidentifier()


def test_there_are_enough_and_every_rung_has_one() -> None:
    assert len(MUTANTS) >= 70
    assert {mutant.rung for mutant in MUTANTS.values()} - {None} == set(RUNGS)
    assert sum(mutant.package == "torch" for mutant in MUTANTS.values()) >= 12


@_named(HERE)
def test_a_mutant_is_found_on_its_rung_and_not_below(mutant: Mutant) -> None:
    assert mutant.rung is not None
    below = first_failure(mutant.name, GLANCE, RUNGS[: RUNGS.index(mutant.rung)])
    assert below is None, below.message()
    found = first_failure(mutant.name, SHORT, [mutant.rung])
    assert found is not None, f"{mutant.name} survived: {mutant.what}"
    assert found.replay is not None
    assert f"{mutants.__name__}:{mutant.name}" in found.replay


@_named([mutant for mutant in MUTANTS.values() if mutant.package == "torch"])
def test_a_torch_mutant_is_found_on_its_rung(mutant: Mutant) -> None:
    """The rungs below take torch half a minute: the matrix has them."""
    _package(mutant)
    assert mutant.rung is not None
    assert first_failure(mutant.name, SHORT, [mutant.rung]) is not None, (
        f"{mutant.name} survived: {mutant.what}"
    )


@_named([mutant for mutant in MUTANTS.values() if mutant.rung == "distribution"])
def test_what_only_statistics_see(mutant: Mutant) -> None:
    found = first_failure(mutant.name, SHORT, ["distribution"])
    assert found is not None, f"{mutant.name} survived: {mutant.what}"


@pytest.mark.parametrize("package", CLASSES)
def test_the_healthy_twin_passes(package: str) -> None:
    if reason := unavailable(package):
        pytest.skip(reason)
    found = first_failure(f"healthy_{package}", GLANCE, DETERMINISTIC)
    assert found is None, found.message()


def test_a_mutant_is_an_engine_by_its_name_and_leaves_the_real_one_alone() -> None:
    engine = create(f"{mutants.__name__}:max_pool_ties_last", "cpu", "float64")
    assert type(engine).__module__ == f"{ALIAS}.max_pool_ties_last.engine"
    assert type(create("numpy")).__module__ == "dlsys_bench.engines.numpy.engine"
    pooling = sys.modules[f"{ALIAS}.max_pool_ties_last.pooling"]
    assert pooling is not sys.modules["dlsys_bench.engines.numpy.pooling"]
    assert mutants.max_pool_ties_last is mutants.max_pool_ties_last


def test_an_unknown_name_is_no_engine() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        mutants.nobody  # noqa: B018
    with pytest.raises(EngineError, match="has no 'nobody'"):
        create(f"{mutants.__name__}:nobody")


@pytest.mark.parametrize(("old", "count"), [("x", 2), ("z", 0)])
def test_an_edit_that_does_not_apply_once_is_an_error(old: str, count: int) -> None:
    with pytest.raises(EngineError, match=f"contains the text to be replaced {count} times"):
        Edit("dense.py", old, "y").apply("x + x")


def test_the_matrix(tmp_path: Path) -> None:
    names = ["flatten_channel_first", "dense_dx_of_magnitudes"]
    found = sorted(detect_all(names, SHORT, jobs=2), key=lambda one: names.index(one.name))
    assert [one.found for one in found] == ["forward", "gradient"]
    lost = (
        Detection("tanh_derivative", "gradient"),
        Detection("torch_adamw", "step", reason="no torch"),
    )
    elsewhere = Detection("prints", "shapes", "loss/hinge", 1.0, "a | b")
    known = Detection("dropout_wears_off", None)
    every = [*found, *lost, elsewhere, known]
    assert summary(every) == (
        "3 of 4 mutants found; 1 skipped; survived: tanh_derivative; known to survive: dropout_wears_off; "
        "found elsewhere than expected: prints (in loss)"
    )
    table = markdown(every, SHORT)
    assert "| flatten_channel_first | · | **X** |  |" in table
    assert "| prints | · | · | · | (X) |" in table
    assert "a \\| b" in table
    write(tmp_path, every, SHORT)
    values = json.loads((tmp_path / "mutants.json").read_text())
    assert values["mutants"][0]["check"] in CHECKS
    assert (tmp_path / "mutants.md").read_text() == table


def test_the_command(tmp_path: Path) -> None:
    args = [
        sys.executable,
        "-m",
        mutants.__name__,
        "flatten_channel_first",
        "--examples",
        "5",
        "--output",
        tmp_path,
    ]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "1 of 1 mutants found; none survived" in done.stdout
    assert (tmp_path / "mutants.md").exists()
