"""Time to accuracy: evaluations, times, censored runs, their tables and plots, and the command."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.data import load
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import UserError
from dlsys_bench.report.plots.to_accuracy import to_accuracy
from dlsys_bench.report.to_accuracy import (
    HEADS,
    Median,
    failed_run,
    group_by_target,
    to_accuracy_tables,
)
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.run import run as run_of
from dlsys_bench.studies.registry import find
from dlsys_bench.timing.ratio import median_interval
from dlsys_bench.timing.target import Target
from dlsys_bench.timing.to_accuracy import Run, evaluation_plans, measure, read, train_each

TARGET = Target("test_accuracy", 0.9, 0.99, 0.95, 0.02, 20, "reference/x.jsonl")
KEY = Key(
    study="regularization/fashion-mlp",
    arm="vanilla",
    dataset="digits",
    tier="quick",
    engine="numpy",
    device="cpu",
    seed=10_000,
    protocol="p",
)
EPOCHS = Run(KEY, TARGET)


def changed(run: Run, **fields: object) -> Run:
    """Return the run with other values in these fields of its key."""
    return replace(run, key=replace(run.key, **fields))  # type: ignore[arg-type]


PARTS = changed(EPOCHS, study="regularization/lenet5-overlap-tanh", arm="standard+bn")

MODULE = '''
import time
from dataclasses import replace

import numpy as np

from dlsys_bench.data import load
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import epoch_batch_sizes


class Scripted(NumpyEngine):
    """An engine with scripted times and accuracies.

    An update takes a second by its clock, and the first one of each fit five more. `scores` are the
    accuracies by number of updates. The first use takes 0.4 s, and a prediction one second.
    """

    name = "scripted"
    scores = {}
    warm = False

    def __init__(self, *arguments):
        super().__init__(*arguments)
        time.sleep(0.2)

    def fit(self, net, samples, recipe, plan):
        if not type(self).warm:
            type(self).warm = True
            time.sleep(0.2)
        done = 0
        for number, sizes in enumerate(epoch_batch_sizes(len(samples.x), recipe, plan), 1):
            done += len(sizes)
            self.done = done
            yield Epoch(number, done, len(sizes) + 5.0 * (number == 1), 1.0, 0.5)

    def predict(self, net, x):
        time.sleep(1.0)
        y = load("digits").y_test[: len(x)]
        right = np.arange(len(x)) < round(self.scores.get(self.done, 0.5) * len(x))
        return np.eye(10)[np.where(right, y, (y + 1) % 10)]


class Flat(NumpyEngine):
    """An engine whose training does not reduce the loss."""

    name = "flat"

    def fit(self, net, samples, recipe, plan):
        still = replace(recipe.optimizer, learning_rate=1e-12)
        return super().fit(net, samples, replace(recipe, optimizer=still), plan)


class Broken(Flat):
    """An engine whose training raises."""

    def fit(self, net, samples, recipe, plan):
        raise RuntimeError("no driver")


class Wild(Flat):
    """An engine whose training diverges."""

    name = "wild"

    def fit(self, net, samples, recipe, plan):
        far = replace(recipe.optimizer, learning_rate=1e30)
        return NumpyEngine.fit(self, net, samples, replace(recipe, optimizer=far), plan)
'''


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "engines_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    # The processes of runs import it from the current directory.
    monkeypatch.chdir(tmp_path)
    import engines_of_a_test  # type: ignore[import-not-found]

    yield engines_of_a_test.Scripted
    del sys.modules["engines_of_a_test"]


def test_the_first_evaluation_that_reaches_the_target_ends_the_run(scripted: Any) -> None:
    scripted.scores = {23: 0.6, 46: 0.9, 69: 0.5, 92: 0.99}
    started = time.perf_counter()
    line = measure(changed(EPOCHS, engine="engines_of_a_test:Scripted"))
    wall = time.perf_counter() - started
    assert [(look["steps"], look["value"]) for look in line["looks"]] == [(23, 0.6), (46, 0.9)]
    assert (line["reached"], line["reason"], line["steps"]) == (True, None, 46)
    # The engine's clock: 46 updates without the first, in which it compiles.
    assert line["seconds"] == 45.0
    assert line["first_step_seconds"] == 6.0
    # The wall clock: everything that is done once, but not the evaluations.
    assert wall > 2.4
    assert 0.4 <= line["cold_seconds"] < 1.4
    assert [look["cold_seconds"] for look in line["looks"]] == sorted(
        look["cold_seconds"] for look in line["looks"]
    )
    assert 0.2 <= line["load_seconds"] < 0.4 + line["cold_seconds"]


def test_trainings_of_few_epochs_are_evaluated_ten_times(scripted: Any) -> None:
    scripted.scores = {18: 0.95, 24: 0.2}
    line = measure(changed(PARTS, engine="engines_of_a_test:Scripted"))
    assert [look["steps"] for look in line["looks"]] == [6, 12, 18]
    assert (line["seconds"], line["steps"]) == (17.0, 18)
    assert 0.4 <= line["cold_seconds"] < 1.4


@pytest.mark.parametrize(
    ("samples", "name", "ends"),
    [
        (60_000, "regularization/lenet5-tanh/dropout", list(range(20, 201, 20))),
        (1437, "regularization/lenet5-tanh/dropout", [None]),
        (1437, "regularization/lenet5-overlap-tanh/dropout", list(range(6, 61, 6))),
    ],
)
def test_evaluations_are_at_the_epochs_if_there_are_enough(
    samples: int, name: str, ends: list[int | None]
) -> None:
    (case,) = find(name)
    assert [
        plan.steps for plan in evaluation_plans(samples, case.arm.recipe("quick"), Plan(1))
    ] == ends
    few = replace(case.arm.recipe("quick"), steps=3)
    assert [plan.steps for plan in evaluation_plans(samples, few, Plan(1))] == [1, 2, 3]


@pytest.mark.parametrize(
    "run",
    [
        EPOCHS,
        pytest.param(changed(EPOCHS, study="batch-size-sweep", arm="128"), marks=pytest.mark.slow),
    ],
    ids=["epochs", "parts"],
)
def test_a_censored_run_trains_to_the_end(run: Run) -> None:
    """Its last evaluation equals the result of a run with that seed."""
    line = measure(replace(run, target=replace(TARGET, value=1.01)))
    whole = run_of(run.case, create("numpy"), load("digits"), tier="quick", seed=run.seed)
    assert whole.last is not None
    last = line["looks"][-1]
    assert (last["steps"], last["value"]) == (whole.last.steps, whole.last.test_accuracy)
    assert not line["reached"]
    assert line["reason"] == f"test_accuracy {whole.last.test_accuracy:.5g} at the end"
    assert line["seconds"] == last["seconds"]
    assert line["provenance"]["versions"]["numpy"] == np.__version__


@pytest.mark.usefixtures("scripted")
def test_a_run_that_diverges_does_not_reach_the_target() -> None:
    line = measure(changed(EPOCHS, engine="engines_of_a_test:Wild"))
    assert (line["reached"], line["looks"], line["seconds"]) == (False, [], None)
    assert "the loss became" in line["reason"]


@pytest.mark.usefixtures("programs")
def test_interrupted_runs_resume_and_other_targets_are_other_runs(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    runs = [Run(replace(KEY, seed=seed), replace(TARGET, value=0.5)) for seed in (10_000, 10_001)]
    begun = train_each(runs, path)
    first = next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert read(path) == [first[1]]
    text = path.read_text()
    found = list(train_each(runs, path))
    assert found[0] == first
    assert path.read_text().startswith(text)
    assert [line["seed"] for line in read(path)] == [10_000, 10_001]
    text = path.read_text()
    assert list(train_each(runs, path)) == found
    assert path.read_text() == text
    list(train_each([replace(runs[0], target=replace(TARGET, value=0.6))], path))
    assert [line["target"]["value"] for line in read(path)] == [0.5, 0.5, 0.6]


def invoke(path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(
        cli,
        [
            "bench",
            "time-to-accuracy",
            "regularization/fashion-mlp",
            "--dataset",
            "digits",
            "--output",
            str(path),
            *arguments,
        ],
    )


@pytest.mark.slow
def test_the_command_interleaves_engines_and_tabulates_the_runs(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="pip install 'dlsys-bench[numba]'")
    path = tmp_path / "t.jsonl"
    done = invoke(path, "--engine", "numpy", "--engine", "numba", "--seeds", "2")
    assert done.exit_code == 0, done.output
    lines = read(path)
    assert [(line["seed"], line["engine"]) for line in lines] == [
        (10_000, "numpy"),
        (10_000, "numba"),
        (10_001, "numpy"),
        (10_001, "numba"),
    ]
    rows = [
        row.split(" | ")
        for row in (tmp_path / "t.md").read_text().splitlines()
        if row.startswith("| num")
    ]
    for engine, row in zip(("numpy", "numba"), rows, strict=True):
        mine = [line for line in lines if line["engine"] == engine]
        assert row[2] == "2 of 2"
        for column, field in ((3, "seconds"), (4, "cold_seconds"), (6, "steps")):
            middle = (mine[0][field] + mine[1][field]) / 2
            assert float(row[column].replace(",", "")) == pytest.approx(middle, rel=0.006), field
    assert f"test_accuracy ≥ {lines[0]['target']['value']:.5g}" in (tmp_path / "t.md").read_text()
    assert "![](t.png)" in (tmp_path / "t.md").read_text()
    assert (tmp_path / "t.png").stat().st_size > 10_000
    again = invoke(path, "--engine", "numpy", "--engine", "numba", "--seeds", "2")
    assert again.exit_code == 0
    assert read(path) == lines


@pytest.mark.usefixtures("scripted", "programs")
def test_an_engine_that_does_not_learn_has_another_exit_code_than_one_that_fails(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.jsonl"
    done = invoke(
        path,
        "--engine",
        "engines_of_a_test:Flat",
        "--engine",
        "engines_of_a_test:Broken",
        "--seeds",
        "1",
    )
    assert done.exit_code == 2, done.output
    (line,) = read(path)
    assert not line["reached"]
    assert len(line["looks"]) == 35
    assert "Flat cpu vanilla seed 10000: never reached test_accuracy" in done.output
    flat, broken = [
        row for row in (tmp_path / "t.md").read_text().splitlines() if row.startswith("| engines")
    ]
    assert "| 0 of 1 | never | never |" in flat
    assert f"seed 10000: test_accuracy {line['looks'][-1]['value']:.5g} at the end" in flat
    # A run that failed is in the table too, and is repeated by the next command.
    assert "| 0 of 1 | never | never |" in broken
    assert "seed 10000: RuntimeError: no driver" in broken
    assert (tmp_path / "t.png").stat().st_size > 10_000
    assert invoke(path, "--engine", "engines_of_a_test:Flat", "--seeds", "1").exit_code == 1
    assert read(path) == [line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "t.md"], "expected NAME.jsonl"),
        (["--arm", "vanila"], "no arm 'vanila' (did you mean"),
        (["--engine", "nunpy"], "unknown engine 'nunpy'"),
        (["--tier", "full"], "no target can be set: 0 reference runs"),
    ],
)
def test_invalid_options_raise_before_anything_is_trained(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = invoke(tmp_path / "t.jsonl", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "t.jsonl").exists()


def lines_of(seconds: list[float | None], **fields: Any) -> list[dict[str, Any]]:
    """Return runs with these seconds, and twice as many from a cold start.

    None is a run that did not reach the target within 50 seconds.
    """
    return [
        EPOCHS.to_dict()
        | {
            "seed": 10_000 + number,
            "reached": duration is not None,
            "seconds": duration or 50.0,
            "steps": 7,
            "cold_seconds": 2 * (duration or 50.0),
            "reason": None if duration else "0.5 at the end",
            "others_share": 0.01 * number,
        }
        | fields
        for number, duration in enumerate(seconds)
    ]


def test_a_run_that_did_not_reach_the_target_is_right_censored() -> None:
    seconds: list[float | None] = [5.0, 1.0, None, 3.0, 2.0, 4.0, 6.0]
    ((work,), broken) = (
        group_by_target(lines_of(seconds)),
        failed_run(EPOCHS.to_dict() | {"seed": 9}, "it crashed"),
    )
    values = [math.inf if value is None else value for value in seconds]
    assert (
        work.engines[0].median("seconds")
        == Median(4.0, *median_interval(values))
        == Median(4.0, 1.0, math.inf)
    )
    row = dict(zip(HEADS, work.engines[0].row, strict=True))
    assert row == {
        "engine": "numpy",
        "device": "cpu",
        ">reached": "6 of 7",
        ">training, s": "4 [1, never]",
        ">from a cold start, s": "8 [2, never]",
        ">start, s": "4",
        ">updates": "7",
        ">background load": "6%",
        "not reached": "seed 10002: 0.5 at the end",
    }
    # No median if half of the runs or more are censored; a run that failed is one of them.
    (work,) = group_by_target([*lines_of([1.0, None]), broken])
    assert work.engines[0].row[2:5] == ("1 of 3", "never", "never")
    assert "seed 9: it crashed" in work.engines[0].row[-1]


def test_few_seeds_have_no_interval() -> None:
    assert str(Median.of([1.0, 2.0, 3.0, 4.0, 5.0])) == "3"
    assert str(Median.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == "3.5 [1, 6]"


def test_targets_have_their_tables_and_a_common_plot(tmp_path: Path) -> None:
    lines = [
        *lines_of([1.0, 20.0, None]),
        *lines_of([3.0], device="cuda"),
        *lines_of([3.0], arm="dropout"),
        *lines_of([2.0], target=asdict(replace(TARGET, value=0.8))),
        failed_run(EPOCHS.to_dict() | {"engine": "gone"}, "it crashed"),
    ]
    works = group_by_target(lines)
    titles = [table.title for table in to_accuracy_tables(works)]
    assert [len(table.rows) for table in to_accuracy_tables(works)] == [3, 1, 1]
    assert (
        "fashion-mlp/vanilla on digits, tier quick: "
        "seconds until test_accuracy ≥ 0.9, the lower end" in titles[0]
    )
    assert "dropout" in titles[1]
    assert "≥ 0.8" in titles[2]
    path = tmp_path / "t.png"
    assert to_accuracy(works, path) == path
    assert path.stat().st_size > 10_000
    # Only a run that failed.
    to_accuracy(group_by_target(lines[-1:]), path)


@pytest.mark.parametrize("text", ["no json\n", '{"study": "x"}\n', "[1]\n"])
def test_a_file_of_other_contents_raises(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="not a file of measured points"):
        list(train_each([EPOCHS], path))
    assert path.read_text() == text


@pytest.mark.usefixtures("programs")
def test_a_measurement_survives_json(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    ((_, line),) = train_each([replace(EPOCHS, target=replace(TARGET, value=0.2))], path)
    assert [json.loads(text) for text in path.read_text().splitlines()] == [line]
    assert isinstance(line, dict)
    assert Run.from_dict(line) == replace(EPOCHS, target=replace(TARGET, value=0.2))
