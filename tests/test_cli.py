"""The command line, in an empty folder."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import enter, invoke
from documented import plain
from results import make_result

from dlsys_bench.cli import listing
from dlsys_bench.cli.compare import select_runs
from dlsys_bench.data import load, prepare
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.runs import checkpoint
from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.metrics import evaluate
from dlsys_bench.runs.store import append, read
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import registry
from dlsys_bench.studies.registry import default_target, studies

STUDY = '''
import numpy as np
from dlsys_bench.data import Dataset
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.layers import Activation, Conv2D, Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study

def study(name, model, recipe):
    return Study(name, "mine", "mine", "digits", (Arm("only", model, {"quick": recipe}),))

SMALL = Model("small", (28, 28, 1), (Flatten(), Dense(8), Activation("relu"), Dense(10)))
MINE = study("mine", SMALL, Recipe(SGD(0.1), batch_size=16, epochs=2))
WILD = study("wild", SMALL, Recipe(SGD(1e30), batch_size=64, epochs=5))
LONG = study("long", SMALL, Recipe(SGD(0.1), batch_size=1, epochs=10_000))
NARROW = study("narrow", Model("narrow", (28, 28, 1), (Flatten(), Dense(3))), Recipe(epochs=1))
VECTOR = study("vector", Model("vector", (784,), (Dense(10),)), Recipe(epochs=1))

def drawn():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (60, 28, 28, 1)).astype("uint8")
    y = generator.integers(0, 10, 60)
    return Dataset("drawn", x, y, x[:20], y[:20], tuple("abcdefghij"))

class Serial(NumpyEngine):
    """An engine that trains one network at a time."""
    name = "serial"
    threaded = False

class LabelNoise(NumpyEngine):
    """A broken engine: every label is one off."""
    name = "label-noise"
    def fit(self, net, samples, recipe, plan):
        return super().fit(net, type(samples)(samples.x, (samples.y + 1) % 10), recipe, plan)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    (tmp_path / "mine.py").write_text(STUDY)
    return tmp_path


def test_list_names_everything(folder: Path) -> None:
    listed = json.loads(invoke("list", "--json").stdout)
    assert {record["engine"] for record in listed["engines"]} >= {
        "numpy",
        "torch",
        "keras",
        "keras-jit",
        "keras-jax",
        "torch-compile",
    }
    assert {study["study"] for study in listed["studies"]} == set(studies())
    assert "lenet5-tanh/bn+bn" in invoke("list", "models").stdout


def test_summary_shows_what_keras_shows(folder: Path) -> None:
    assert "62,614" in invoke("summary", "lenet5-tanh/bn+bn").stdout
    shown = json.loads(invoke("summary", "lenet5-tanh/bn+bn", "--json").stdout)
    assert shown["params_non_trainable"] == 454
    (folder / "model.json").write_text(
        json.dumps({k: v for k, v in shown.items() if not k.startswith("params")})
    )
    assert json.loads(invoke("summary", "model.json", "--json").stdout) == shown
    assert "6,370" in invoke("summary", "mine:SMALL").stdout


def test_a_study_of_a_module_runs_is_stored_and_is_reported(folder: Path) -> None:
    done = invoke("run", "mine:MINE", "--seeds", "2", "--json", "--weights", "weights")
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    stored = read(folder / "reports" / "runs.db")
    assert [run.seed for run in stored] == [run["seed"] for run in printed] == [10_000, 10_001]
    assert [len(run.history) for run in stored] == [2, 2]
    assert all((run.history[-1].test_accuracy or 0) > 0.5 for run in stored)
    model, weights = checkpoint.load(folder / "weights" / "mine.only.digits.quick.numpy.10001.npz")
    engine, data = NumpyEngine(), prepare(load("digits"))
    loss, accuracy = evaluate(
        engine.predict(engine.build(model, weights), data.test.x), data.test, Recipe().loss
    )
    assert (accuracy, loss) == pytest.approx(
        (stored[1].history[-1].test_accuracy, stored[1].history[-1].test_loss)
    )
    assert "0 runs written" in invoke("run", "mine:MINE", "--seeds", "2", "--resume").stderr
    shown = invoke("report").stdout
    assert "mine/only" in shown
    assert (folder / "reports" / "report.md").read_text().count("| mine/only |") == 1
    assert (folder / "reports" / "mine.digits.quick.curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def no_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is registered, as with installed metadata that are older than the entry points."""
    for module in (registry, listing):
        monkeypatch.setattr(module, "studies", dict)
        monkeypatch.setattr(module, "models", dict)


@pytest.mark.usefixtures("folder", "no_studies")
def test_without_studies_commands_say_to_reinstall() -> None:
    advice = "no study is registered; the installed metadata may be older than the code"
    listed = invoke("list")
    assert f"studies: {advice}" in listed.stderr
    assert "numpy" in listed.stdout
    assert json.loads(invoke("list", "studies", "--json").stdout) == []
    for command in ("run perceptron", "gate", "power", "bench sweep", "bench time-to-accuracy"):
        error = invoke(*command.split(), code=2).stderr
        assert advice in error
        assert "pip install -e ." in error


def test_commands_take_the_default_study_or_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_target() == "regularization/lenet5-tanh"
    assert default_target(group=True) == "regularization"
    other = replace(studies()["eggholder"], default=True)
    monkeypatch.setattr(registry, "studies", lambda: {"eggholder": other})
    assert default_target() == default_target(group=True) == "eggholder"


def test_runs_of_a_group_are_selected_by_the_registry(folder: Path) -> None:
    for study in ("regularization/fashion", "regularization/no-such-study", "perceptron"):
        append(folder / "runs.jsonl", make_result(study=study))
    (found,) = select_runs("runs.jsonl@study=regularization")
    assert found.key.study == "regularization/fashion"


def test_the_report_of_a_training_draws_no_curves(folder: Path) -> None:
    for seed in range(3):
        append(folder / "runs.jsonl", train_once(lambda seed: 0.9 + 0.01 * seed, seed, "m2:train"))
    invoke("report", "runs.jsonl", "--output", "written")
    text = (folder / "written" / "report.md").read_text()
    assert "m2:train" in text
    assert "m2:train/" not in text
    assert "on ," not in text
    assert [path.name for path in (folder / "written").glob("*.png")] == ["m2.train.seeds.png"]


def test_a_study_trains_on_other_data(folder: Path) -> None:
    assert "mine/only on mine:drawn" in invoke("run", "mine:MINE", "--dataset", "mine:drawn").stderr
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (50, 28, 28)).astype("uint8"), generator.integers(0, 10, 50)
    np.savez(folder / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert "mine/only on own.npz" in invoke("run", "mine:MINE", "--dataset", "own.npz").stderr


def judge(*arguments: str, code: int = 0) -> dict[str, Any]:
    arm = ("gate", "cyclical-learning-rate/fixed", "--dataset", "digits", "--json")
    verdict: dict[str, Any]
    (verdict,) = json.loads(invoke(*arm, *arguments, code=code).stdout)["verdicts"]
    return verdict


def test_the_gate_fails_a_broken_engine_and_passes_a_healthy_one(folder: Path) -> None:
    healthy = judge()
    assert healthy["outcome"] == "PASS"
    broken = judge("--engine", "mine:LabelNoise", code=1)
    assert broken["outcome"] == "FAIL"
    assert broken["measured"] < broken["band"]["mean"] - broken["smallest_shift"]
    assert broken["band"] == healthy["band"]


@pytest.mark.slow
def test_the_replay_line_of_a_gate_repeats_its_runs(folder: Path) -> None:
    broken = judge("--engine", "mine:LabelNoise", code=1)
    command = shlex.split(broken["replay"])[1:]
    (again,) = json.loads(invoke(*command, "--json", code=1).stdout)["verdicts"]
    assert (again["values"], again["band"]) == (broken["values"], broken["band"])


def test_a_gate_without_stored_runs_is_inconclusive(folder: Path) -> None:
    stderr = plain(invoke("gate", "mine:MINE", code=3).stderr)
    assert "0 reference runs in reference/mine.digits.quick.jsonl, a gate needs 3" in stderr


def test_a_non_finite_loss_is_named_by_epoch_and_batch_and_never_passes(
    folder: Path,
) -> None:
    stderr = plain(invoke("gate", "mine:WILD", code=3).stderr)
    assert "the loss became nan in epoch 1, batch" in stderr
    (run,) = read(folder / "reports" / "runs.db")
    assert run.status == "diverged"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "regularisation"), 'did you mean "regularization"?'),
        (("run", "regularization/lenet5-tahn"), 'did you mean "regularization/lenet5-tanh"?'),
        (("summary", "lenet5-tanh/bn-bn"), 'did you mean "lenet5-tanh/bn+bn"?'),
        (("run", "mine:MINE", "--engine", "nunpy"), 'did you mean "numpy"?'),
        (("run", "mine:MINE", "--engine", "nowhere:Engine"), "cannot import 'nowhere'"),
        (("run", "mine:MINE", "--dataset", "mnits"), 'did you mean "mnist"?'),
        (("run", "mine:MINE", "--device", "cuda"), 'engine "numpy" has no device'),
        (("run", "mine:MINE", "--device", "tpu"), 'engine "numpy" has no device'),
        (("run", "mine:NOTHING"), "study 'mine:NOTHING': mine has no 'NOTHING'"),
        (("run", "mine:SMALL"), "not a Study"),
        (("summary", "mine:MINE"), "'mine:MINE' is a Study, not a Model"),
        (("run", "mine:MINE", "--seeds", "0"), "--seeds"),
        (("run", "mine:MINE", "--tier", "full"), "has no tier 'full'"),
        (("run", "mine:NARROW"), "labels are 0 to 2"),
        (("run", "mine:VECTOR"), "samples of shape (28, 28, 1)"),
        (("run", "mine:MINE", "--dataset", "mnist", "--data-dir", "nowhere"), "nowhere"),
        (("report",), "cannot read results from reports/runs.db"),
        (("gate", "mine:MINE", "--alpha", "2"), "--alpha"),
        (
            ("run", "mine:MINE", "--weights", "/dev/null/weights"),
            "cannot write weights to /dev/null/weights",
        ),
        (("lits",), "No such command 'lits'"),
        (("summary", "missing.json"), "missing.json"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = invoke(*arguments, code=2)
    assert message in done.stderr
    assert done.stdout == ""
    assert not (folder / "reports" / "runs.db").exists() or not read(folder / "reports" / "runs.db")


def test_a_process_ends_with_the_exit_code_and_without_a_traceback(folder: Path) -> None:
    command = [sys.executable, "-m", "dlsys_bench", "summary", "mine:NOTHING"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert "mine has no 'NOTHING'" in done.stderr
    assert "Traceback" not in done.stderr


def test_results_that_cannot_be_written_are_named_before_anything_is_lost(folder: Path) -> None:
    (folder / "reports").write_text("in the way")
    assert "cannot write results to reports/runs.db" in invoke("run", "mine:MINE", code=2).stderr


@pytest.mark.usefixtures("heard_interrupts")
def test_an_interrupt_leaves_every_finished_run_readable(folder: Path) -> None:
    invoke("run", "mine:MINE")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-m", "dlsys_bench", "run", "mine:LONG", "--weights", "weights"],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while not (folder / "weights").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "every run that had finished is kept" in stderr
    assert "Traceback" not in stderr
    assert [run.key.study for run in read(folder / "reports" / "runs.db")] == ["mine"]


def test_help_completion_and_imports_load_no_framework_and_no_numpy() -> None:
    code = (
        "import sys, dlsys_bench, dlsys_bench.plugin, dlsys_bench.cli as c\n"
        "for command in ([], ['gate'], ['bench', 'sweep']):\n"
        "    c.cli.main([*command, '--help'], standalone_mode=False)\n"
        "from click.shell_completion import ShellComplete\n"
        "complete = ShellComplete(c.cli, {}, 'dlsys-bench', '_DLSYS_BENCH_COMPLETE')\n"
        "print('COMPLETE', [item.value for item in complete.get_completions(['run'], '--se')])\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'jax', 'numba', 'numpy', 'matplotlib', 'rich'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED []\n")
    assert "COMPLETE ['--seeds']" in done.stdout
    assert "power" in done.stdout


def test_a_study_of_many_networks_is_run_reported_and_ruled_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = invoke("run", "dying-relu/relu", "--output", "runs.jsonl", "--seeds", "2")
    assert "200 │" in done.stdout
    (first, second) = read(folder / "runs.jsonl")
    assert (first.replicas, first.figures["networks"]) == (200, 200)
    assert first.figures["collapsed"] == round(200 * first.figures["collapse_fraction"])
    assert first.figures != second.figures
    written = invoke("report", "runs.jsonl", "--output", "out").stdout
    assert "dying-relu.absolute.quick.collapse.png" in written
    page = (folder / "out" / "report.md").read_text()
    assert "## dying-relu\n" in page
    assert "| nb2.relu.collapse | 0.964 |" in page


def test_an_arm_that_does_not_apply_is_an_error_by_name(
    folder: Path,
) -> None:
    stderr = invoke("run", "perceptron/nb2/hinge", "--engine", "mine:Serial", code=2).stderr
    assert "the loop of a notebook, written in numpy" in stderr
    stderr = invoke("run", "batch-size-sweep/8192", "--dataset", "digits", code=2).stderr
    assert (
        stderr.strip()
        == "dlsys-bench: recipe: batch_size is 8192, but the data have 1,437 training samples"
    )
    assert (
        "of shape (1,)" in invoke("run", "regularization", "--dataset", "absolute", code=2).stderr
    )


def test_claims_are_listed_with_their_rulings(folder: Path) -> None:
    rulings = json.loads(invoke("claims", "--json").stdout)
    assert len([one for one in rulings if one["claim"].startswith("nb")]) == 195
    assert {one["ruling"] for one in rulings} <= {
        "reproduced",
        "not reproduced",
        "undecided",
        "unsound",
        "not testable",
        "unmeasured",
        "not printed",
    }
    some = json.loads(invoke("claims", "perceptron", "--json").stdout)
    assert [one["claim"] for one in some] == [
        one["claim"] for one in rulings if one["study"] == "perceptron"
    ]
    assert 'did you mean "perceptron"' in invoke("claims", "perceptrom", code=2).stderr
    listed = json.loads(invoke("claims", "regularization", "--published", "--json").stdout)
    assert {"kind": "exact", "value": 546538}.items() <= listed[0].items()
    assert "unsound" not in invoke("claims", "perceptron", "--published").stdout
    invoke("claims", "dying-relu", "--output", "claims.md")
    assert "| nb2.relu.collapse | 0.964 |" in (folder / "claims.md").read_text()


def test_parallel_runs_equal_sequential_runs(folder: Path) -> None:
    for jobs, path in ((1, "one.jsonl"), (2, "two.jsonl")):
        invoke("run", "mine:MINE", "--seeds", "3", "--jobs", str(jobs), "--output", path)
    one, two = (
        {run.seed: run for run in read(folder / path)} for path in ("one.jsonl", "two.jsonl")
    )
    assert set(one) == set(two) == {10_000, 10_001, 10_002}
    for seed, run in one.items():
        assert [epoch.test_loss for epoch in run.history] == [
            epoch.test_loss for epoch in two[seed].history
        ]
    stderr = invoke("run", "mine:MINE", "--engine", "mine:Serial", "--jobs", "2", code=2).stderr
    assert stderr.strip().endswith(
        "trains one network at a time: --jobs 2 is for engines that declare threaded"
    )


@pytest.mark.parametrize("ending", ["raise RuntimeError('out of memory')", "raise SystemExit(0)"])
def test_an_exception_of_a_training_is_not_a_verdict(folder: Path, ending: str) -> None:
    (folder / "mine_train.py").write_text(f"def train(seed):\n    {ending}\n")
    stored = [
        train_once(lambda seed: 0.5 + 1e-3 * seed, seed, "mine_train:train") for seed in range(20)
    ]
    for one in stored:
        append(folder / "runs.jsonl", one)
    stderr = invoke("gate", "mine_train:train", "--reference", "runs.jsonl", code=2).stderr
    assert "dlsys-bench: training 'mine_train:train', seed 10000: " in stderr
