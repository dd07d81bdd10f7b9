"""From nothing to an accepted baseline, on the command line and from pytest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import enter, invoke

# pytester forgets the modules that an inner run imports, but numpy cannot be imported twice.
import dlsys_bench.plugin.training_gate
from dlsys_bench.cli import baseline
from dlsys_bench.cli.calibration_summary import plot, summarise_study
from dlsys_bench.cli.training import WorkOptions, work_of
from dlsys_bench.runs.calibration.calibrate import Calibration
from dlsys_bench.runs.calibration.job import Job, train
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import Store, append, find_reference, read, reference_path
from dlsys_bench.verdicts.figures import round_up
from dlsys_bench.verdicts.gate import Terms, share
from dlsys_bench.verdicts.power import power

TRAINING = """
import numpy as np

LEVEL = 0.9

def train(seed):
    noise = 0.004 * np.random.default_rng(seed).standard_normal()
    return {"accuracy": LEVEL + noise, "loss": 1 - LEVEL - noise}
"""


def train_here(jobs: Iterable[Job], store: Store, _: Any, again: bool) -> Calibration:
    """Train in this process, as workers do."""
    found = Calibration()
    for job in jobs:
        result = train(job)
        assert isinstance(result, Result), result
        store.add(result, once=not again)
        found.trained += 1
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a training and its baseline."""
    enter(tmp_path, monkeypatch)
    for line in ("init -q", "config user.name Ada", "config user.email ada@example.org"):
        subprocess.run(["git", *line.split()], check=True)
    Path("mine.py").write_text(TRAINING)
    subprocess.run("git add -A && git commit -q -m first", shell=True, check=True)
    monkeypatch.setattr(baseline, "train_jobs", train_here)
    monkeypatch.setattr("dlsys_bench.cli.calibrate.train_jobs", train_here)
    options = ("--better", "higher", "--better", "loss=lower", "--output", "mine.jsonl")
    printed = invoke("calibrate", "mine:train", *options).stderr
    assert "accuracy: 0.8999 ± 0.004, 20 runs, MDE 0.0" in printed
    assert "loss: 0.1001 ± 0.004, 20 runs, MDE 0.0" in printed
    metrics = "--metric accuracy --metric loss"
    assert f"next: dlsys-bench gate mine:train --reference mine.jsonl {metrics}" in printed
    return tmp_path


def test_a_change_is_accepted_with_a_reason_and_a_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read("mine.jsonl")
    commit = first[0].provenance["commit"]
    log = subprocess.run(["git", "log", "-1", "--format=%H"], capture_output=True, text=True)
    assert log.stdout.startswith(commit.removesuffix("-dirty"))
    invoke("baseline", "accept", "mine.jsonl", code=2)
    monkeypatch.setattr("mine.LEVEL", 0.7)
    accept = invoke("baseline", "accept", "mine.jsonl", "--why", "a smaller network")
    assert "accuracy: 0.89" in accept.stdout
    assert "-0.2 [-0.2, -0.2]" in accept.stdout
    runs = read("mine.jsonl")
    assert len(runs) == 20
    assert all(run.figures["accuracy"] < 0.75 for run in runs)
    (record,) = runs[0].provenance["accepted"]
    assert (record["why"], record["who"]) == ("a smaller network", "Ada <ada@example.org>")
    assert record["commit"] == commit
    assert {"python", "numpy"} <= set(record["versions"])
    assert record["when"].startswith("20")
    assert runs[0].provenance["training"]["better"] == {"accuracy": "higher", "loss": "lower"}
    # The training may have another name here than where it was calibrated.
    invoke("baseline", "accept", "mine.py:train", "--reference", "mine.jsonl", "--why", "again")
    assert [run.key.study for run in read("mine.jsonl")] == ["mine.py:train"] * 20
    printed = invoke("baseline", "log", "mine.jsonl").stdout
    assert printed.index("a smaller network") < printed.index("again")
    assert len(json.loads(invoke("baseline", "log", "mine.jsonl", "--json").stdout)) == 2


def test_the_plot_of_the_seeds_has_a_mark_for_each_place() -> None:
    strip = plot([0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert (len(strip), strip[0], strip[20], strip[-1]) == (40, ".", ":", "#")
    assert plot([1.0, 1.0]).strip() == ":"


def test_a_calibrated_study_states_what_its_gates_detect_and_how_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The MDE of each arm is that of `power` for as many gates, with the engines of the runs."""
    pytest.importorskip("numba", reason="pip install 'dlsys-bench[numba]'")
    monkeypatch.chdir(tmp_path)
    study = "regularization/fashion-mlp"
    options = WorkOptions(("numpy", "numba"), "cpu", "digits", None, "quick", "unit")
    work = work_of(study, options)
    summary = summarise_study(study, work, options, None)
    expected = power(work[0].case, work[0].data, "quick", Terms(alpha=share(8, 1e-3)))
    first, *others = summary.to_dict()["arms"]
    assert [first["arm"], *(arm["arm"] for arm in others)] == [
        *("vanilla", "dropout", "bn", "bn+dropout"),
    ]
    assert (first["runs"], first["mde"]) == (20, expected.smallest_shift)
    command = (
        f"dlsys-bench gate {study} --engine numpy --engine numba --device cpu --tier quick "
        "--dataset digits --scaling unit"
    )
    *lines, explained, last = summary.lines()
    assert len(lines) == 4
    assert lines[0].startswith(f"{study}/vanilla on digits: test_accuracy 0.98")
    assert lines[0].endswith(f", 20 reference runs, MDE {round_up(expected.smallest_shift)}")
    assert "alpha 9.4e-05, power 0.99, at most 12 seeds" in explained
    assert last == f"next: {command}"
    elsewhere = summarise_study(study, work, options, Path("new.jsonl")).command
    assert elsewhere.startswith(f"{command} (which reads ")
    assert elsewhere.endswith("fashion-mlp.digits.quick.jsonl, and not new.jsonl)")
    # The first runs of an arm are too few for a gate.
    own = reference_path(study, "digits", "quick")
    own.parent.mkdir(parents=True)
    runs = read(find_reference(study, "digits", "quick"))
    for run in [one for one in runs if one.key.arm == "vanilla"][:3]:
        append(own, run)
    few = summarise_study(study, work, options, None)
    line = few.lines()[0]
    assert (
        ", 3 reference runs: 3 reference runs and at most 12 seeds are too few for a FAIL" in line
    )
    assert few.to_dict()["arms"][0]["mde"] is None
    assert few.lines()[-1] == f"next: {command}"


def test_calibrate_ends_with_the_summary_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference runs of the repository are read, and no run is added to them."""
    enter(tmp_path, monkeypatch)
    monkeypatch.setattr("dlsys_bench.cli.calibrate.train_jobs", lambda *_: Calibration())
    arm = "regularization/fashion-mlp/vanilla"
    command = ("calibrate", arm, "--dataset", "digits", "--seeds", "1")
    *_, explained, last = invoke(*command).stderr.splitlines()
    assert explained.startswith("MDE: the shift that a gate detects (alpha ")
    assert last.startswith(f"next: dlsys-bench gate {arm} --engine ")
    summary = json.loads(invoke(*command, "--json").stdout)["summary"]
    assert [each["runs"] for each in summary["arms"]] == [20]
    assert f"next: {summary['next']}" == last
    assert "next: " not in invoke(*command, "--no-reference").stderr


def test_a_gate_and_its_power_find_the_runs_of_calibrate(folder: Path) -> None:
    found = json.loads(invoke("calibrate", "mine:train", "--json").stdout)["summary"]
    accuracy, loss = found["metrics"]
    assert (accuracy["runs"], len(accuracy["values"]), loss["metric"]) == (20, 20, "loss")
    assert accuracy["lowest"] < accuracy["mean"] < accuracy["highest"]
    assert 0 < accuracy["mde"] < 0.03
    arguments = ("mine:train", "--metric", "accuracy")
    power = json.loads(invoke("power", *arguments, "--json").stdout)
    assert (power[0]["study"], power[0]["stored"]) == ("mine:train", 20)
    invoke("gate", *arguments, "--smallest-shift", "0.02", "--output", "o.jsonl")
    (folder / "other.py").write_text(TRAINING)
    assert "no reference runs of other:train" in invoke("power", "other:train", code=2).stderr


def test_a_gate_judges_several_metrics_within_its_false_alarm_rate(folder: Path) -> None:
    assert folder
    metrics = ("--metric", "accuracy", "--metric", "loss", "--metric", "accuracy")
    terms = ("--smallest-shift", "0.02", "--smallest-shift", "loss=0.03", "--output", "o.jsonl")
    arguments = ("gate", "mine:train", "--reference", "mine.jsonl", *metrics, *terms)
    found = json.loads(invoke(*arguments, "--json").stdout)["verdicts"]
    assert [(one["metric"], one["smallest_shift"]) for one in found] == [
        ("accuracy", 0.02),
        ("loss", 0.03),
    ]
    assert found[0]["alpha"] == found[1]["alpha"] <= 1e-3 / 2
    assert found[0]["seeds"] == found[1]["seeds"]
    assert len(read("o.jsonl")) == len(found[0]["seeds"])  # Each seed is trained once.
    for more, message in (
        ("f1=0.1", "'f1' is not judged"),
        ("loss=0", "'loss=0' is not a number above 0"),
        ("x", "'x' is not a number above 0"),
    ):
        assert message in invoke(*arguments, "--smallest-shift", more, code=2).stderr
    assert "'f1' is not judged" in invoke(*arguments, "--better", "f1=lower", code=2).stderr


@pytest.mark.parametrize("command", [("compare", "mine.jsonl", "new.jsonl"), ("power",), ("gate",)])
def test_what_the_commands_print_fits_80_columns(folder: Path, command: tuple[str, ...]) -> None:
    assert folder
    if command == ("compare", "mine.jsonl", "new.jsonl"):
        invoke("calibrate", "mine:train", "--seeds", "4", "--output", "new.jsonl")
        printed = invoke(*command, "--margin", "0.1").stdout
    else:
        options = ("--reference", "mine.jsonl", "--metric", "accuracy")
        output = ("--output", "o.jsonl") * (command == ("gate",))
        printed = invoke(*command, "mine:train", *options, *output).stdout
    assert "accuracy" in printed or "mine:train" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_seeds_without_effect_are_not_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("mine.jsonl").read_text()
    monkeypatch.setattr(np.random, "default_rng", lambda seed: np.random.RandomState(1))
    error = invoke("baseline", "accept", "mine.jsonl", "--why", "x", code=2).stderr
    assert "equal runs count as one" in error
    assert Path("mine.jsonl").read_text() == before


def test_new_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    assert "train.py" in invoke("new", "first").stdout
    assert "exists already" in invoke("new", "first", code=2).stderr
    assert "gate.xml" in Path("first/.github/workflows/accuracy.yml").read_text()


CLOSURE = """
import numpy as np
import pytest

@pytest.fixture
def level():
    return {level}

def test_closure(accuracy_gate, level):
    def train(seed):
        noise = 0.004 * np.random.default_rng(seed).standard_normal()
        return {{"accuracy": level + noise, "loss": 1 - level - noise}}
    accuracy_gate(
        train, "closure.jsonl", {{"accuracy": 0.02, "loss": 0.03}},
        metric=["accuracy", "loss"], better={{"accuracy": "higher", "loss": "lower"}},
    )
"""


def test_a_closure_is_calibrated_by_pytest_and_judged_by_several_metrics(
    pytester: pytest.Pytester,
) -> None:
    assert dlsys_bench.plugin.training_gate
    options = ("-p", "dlsys_bench.plugin", "-p", "no:cacheprovider", "-p", "no:xdist", "-rs")
    report = pytester.path / "verdicts.json"
    pytester.makepyfile(test_it=CLOSURE.format(level=0.9))
    missing = str(pytester.runpytest_inprocess(*options).stdout)
    assert "pytest --dlsys-update" in missing
    pytester.runpytest_inprocess(*options, "--dlsys-update").assert_outcomes(skipped=1)
    pytester.runpytest_inprocess(*options, "--dlsys-json", str(report)).assert_outcomes(passed=1)
    passed = json.loads(report.read_text())
    assert [verdict["metric"] for verdict in passed] == ["accuracy", "loss"]
    assert passed[0]["alpha"] == passed[1]["alpha"] <= 1e-3 / 2
    pytester.makepyfile(test_it=CLOSURE.format(level=0.7))
    failed = str(pytester.runpytest_inprocess(*options).stdout)
    assert "; closure.jsonl)" in failed  # The path from the folder of the command.
    assert "FAIL: accuracy 0.7" in failed
    assert "FAIL: loss 0.2" in failed
    assert "replay: pytest test_it.py::test_closure" in failed
    assert "accept: pytest --dlsys-update test_it.py::test_closure" in failed
    pytester.runpytest_inprocess(*options, "--dlsys-update").assert_outcomes(skipped=1)
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)
    (record,) = read(pytester.path / "closure.jsonl")[0].provenance["accepted"]
    assert record["why"] == "pytest --dlsys-update"
