"""The plugin, by real pytest runs from another project's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.store import append

TEST = """
import pytest

@pytest.mark.dlsys_study("{study}")
def test_accuracy(dlsys_case, dlsys_gate):
    dlsys_gate(dlsys_case)

def test_of_its_own():
    pass
"""
ENGINE = """
from dlsys_bench.engines.numpy import NumpyEngine

class Shifted(NumpyEngine):
    name = "shifted"
    def fit(self, net, samples, recipe, plan):
        return super().fit(net, type(samples)(samples.x, (samples.y + 1) % 10), recipe, plan)
"""
FAST = "regularization/fashion-mlp"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_mine.py").write_text(TEST.format(study=f"{FAST}/vanilla"))
    (tmp_path / "mine.py").write_text(ENGINE)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n"
    )
    return tmp_path


def run(project: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "dlsys_bench.plugin",
            *arguments,
        ],
        cwd=project,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(project), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


NUMPY = ("--dlsys-engine", "numpy", "--dlsys-dataset", "digits")


@pytest.mark.parametrize(
    "more",
    [(), ("-n", "2"), ("-p", "no:benchmark"), ("-p", "no:xdist"), ("--dlsys-max-seeds", "8")],
)
def test_a_healthy_engine_passes_and_is_in_the_table(project: Path, more: tuple[str, ...]) -> None:
    if "-n" in more:
        pytest.importorskip("xdist", reason="pip install pytest-xdist")
    printed = run(project, *NUMPY, *more)
    assert "2 passed" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith(f"{FAST}/vanilla  digits")]
    assert row.endswith("PASS")


def test_a_broken_engine_fails_with_measured_band_source_and_replay(project: Path) -> None:
    printed = run(project, "--dlsys-engine", "mine:Shifted", "--dlsys-dataset", "digits", code=1)
    assert "1 failed, 1 passed" in printed
    for said in (
        "from a different distribution than ",
        "reference/regularization.fashion-mlp.digits.quick.jsonl",
        "replay: dlsys-bench gate",
        "--engine mine:Shifted",
    ):
        assert said in printed


def test_an_arm_that_cannot_be_judged_is_skipped_with_its_reason(project: Path) -> None:
    (project / "test_mine.py").write_text(
        TEST.format(study="regularization/lenet5-sigmoid/dropout")
    )
    printed = run(project, *NUMPY, "-rs")
    assert "UNJUDGED: test_accuracy 0." in printed
    assert "(1 seed): still at chance" in printed
    assert "1 passed, 1 skipped" in printed


def test_collecting_loads_no_framework(project: Path) -> None:
    (project / "conftest.py").write_text(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    print('LOADED', sorted({'torch', 'tensorflow', 'keras', 'jax'} & set(sys.modules)))\n"
    )
    printed = run(
        project, "--collect-only", "-q", "-s", "--dlsys-engine", "numpy", "--dlsys-engine", "numpy"
    )
    assert "test_accuracy[numpy:regularization/fashion-mlp/vanilla" in printed
    assert "LOADED []" in printed


def test_the_end_says_what_is_left_out_and_how_to_get_it(project: Path) -> None:
    printed = run(project, *NUMPY, "--dlsys-data-dir", str(project))
    assert "left out: mnist, fashion_mnist: dlsys-bench data fetch" in printed


def test_a_project_that_does_not_use_the_plugin_does_not_hear_of_it(project: Path) -> None:
    (project / "test_mine.py").write_text("def test_of_its_own():\n    pass\n")
    printed = run(project)
    assert "1 passed" in printed
    assert "left out" not in printed
    assert "verdicts" not in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dlsys-engine", "nunpy"), 'did you mean "numpy"?'),
        (("--dlsys-max-seeds", "0"), "--dlsys-max-seeds is 0"),
        (("--dlsys-alpha", "1"), "--dlsys-alpha is 1.0; it takes a chance between 0 and 1"),
        (("--dlsys-beta", "0"), "--dlsys-beta is 0.0"),
        (("--dlsys-tier", "slow"), "invalid choice: 'slow'"),
    ],
)
def test_a_bad_option_is_a_usage_error(
    project: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "dlsys_bench.plugin", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 4
    assert said in done.stderr


def test_an_unknown_study_is_an_error_that_names_the_nearest(project: Path) -> None:
    (project / "test_mine.py").write_text(TEST.format(study="regularization/fashion-mpl"))
    assert 'did you mean "regularization/fashion-mlp"?' in run(project, *NUMPY, code=2)


@pytest.mark.parametrize("dataset", ["mnits", "nowhere.npz"])
def test_a_dataset_that_is_not_there_fails_the_test_in_one_line(
    project: Path, dataset: str
) -> None:
    printed = run(project, "--dlsys-engine", "numpy", "--dlsys-dataset", dataset, code=1)
    assert dataset in printed
    assert "Traceback" not in printed


def test_conftest_and_entry_point_load_the_plugin_once(project: Path) -> None:
    (project / "conftest.py").write_text('pytest_plugins = ["dlsys_bench.plugin"]\n')
    assert "2 tests collected" in run(project, "--collect-only", "-q", *NUMPY)


TRAINING = """
import numpy as np
import pytest

STORED = np.random.default_rng(7).normal(0.95, 0.004, 20).tolist()

def train(seed):
    return {mean} + 0.004 * np.random.default_rng(seed).normal()

def test_mine(accuracy_gate):
    accuracy_gate(train, {reference}, {more})

def test_of_its_own():
    pass
"""


def write(
    project: Path, mean: float = 0.95, reference: str = "STORED", more: str = "smallest_drop=0.02"
) -> None:
    text = TRAINING.format(mean=mean, reference=reference, more=more)
    (project / "test_mine.py").write_text(text)


@pytest.mark.parametrize(
    ("mean", "more", "said", "code"),
    [
        (0.95, "smallest_drop=0.02", "2 passed", 0),
        (0.92, "smallest_drop=0.02", "FAIL: test_mine:train: metric 0.9", 1),
        (0.92, "", "from a different distribution than 20 reference runs", 1),
        (0.98, "", "from a different distribution than 20 reference runs", 1),
        (0.98, "side='drop'", "2 passed", 0),
        (0.951, "smallest_drop=0.001", "INCONCLUSIVE: metric 0.9", 0),
        (0.95, "smallest_drop=-1", "smallest_shift is -1; it takes a number above 0", 1),
        (0.95, "metric='accuracy'", "returned no 'accuracy'", 1),
    ],
)
def test_anyones_training_is_held_to_figures_it_gave_before(
    project: Path, mean: float, more: str, said: str, code: int
) -> None:
    write(project, mean, more=more)
    printed = run(project, "-rs", code=code)
    assert said in printed
    assert (
        "dlsys_bench: 1 gate; healthy training fails any with a chance of 0.001 (1.0e-03 each)"
        in printed
    )


def test_anyones_training_is_held_to_a_file_of_its_runs(project: Path) -> None:
    write(project, reference="'stored/runs.jsonl'")
    missing = run(project, code=1)
    assert "dlsys-bench calibrate test_mine:train --seeds 20 --output stored/runs.jsonl" in missing
    for seed in range(20):
        append(
            project / "stored" / "runs.jsonl",
            train_once(lambda seed: 0.95 + 0.001 * (seed % 5), seed, "m"),
        )
    assert "2 passed" in run(project)
    write(project, mean=0.9, reference="'stored/runs.jsonl'")
    assert (
        f"replay: dlsys-bench gate test_mine:train --reference {project}/stored/runs.jsonl"
        in run(project, code=1)
    )
    write(project, reference="'stored/runs.jsonl'", more="first_seed=10")
    assert "seed 10 is also the seed of a reference run" in run(project, "-rs")


def test_a_gate_is_chosen_by_its_marker_and_judges_once(project: Path) -> None:
    write(project)
    assert "1 passed, 1 deselected" in run(project, "-m", "gate")
    (project / "test_mine.py").write_text(
        (project / "test_mine.py")
        .read_text()
        .replace("    acc", "    accuracy_gate(train, STORED)\n    acc")
    )
    assert "a gate judges once a test" in run(project, code=1)


def test_inconclusive_fails_where_it_is_to(project: Path) -> None:
    write(project, reference="[0.9]", more="")
    assert "1 passed, 1 skipped" in run(project)
    assert "INCONCLUSIVE: test_mine:train" in run(project, "--dlsys-inconclusive", "fail", code=1)


def test_what_a_training_raises_is_shown_as_its_own(project: Path) -> None:
    write(project)
    text = (project / "test_mine.py").read_text()
    (project / "test_mine.py").write_text(
        text.replace("return 0.95", "raise RuntimeError('out of memory')\n    return 0.95")
    )
    assert "RuntimeError: out of memory" in run(project, code=1)


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_verdicts_go_to_json_junit_and_github(
    project: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    write(project, mean=0.9)
    printed = run(
        project, *workers, "--dlsys-json", "verdicts.json", "--junitxml", "junit.xml", code=1
    )
    (verdict,) = json.loads((project / "verdicts.json").read_text())
    assert (verdict["outcome"], verdict["study"]) == ("FAIL", "test_mine:train")
    assert "::error title=callable/test_mine%3Atrain::metric 0.9" in printed
    assert "test_mine:train" in (project / "summary.md").read_text()
    assert "dlsys_verdict" in (project / "junit.xml").read_text()


def test_a_gate_that_was_not_counted_does_not_judge(project: Path) -> None:
    write(project)
    text = (project / "test_mine.py").read_text()
    taken = "def test_mine(accuracy_gate):"
    assert taken in text
    asked = "def test_mine(request):\n    accuracy_gate = request.getfixturevalue('accuracy_gate')"
    (project / "test_mine.py").write_text(text.replace(taken, asked))
    assert "a gate is taken as an argument of the test" in run(project, code=1)


def test_runs_of_several_trainings_are_not_one_law(project: Path) -> None:
    for name, mean in (("two:a", 0.95), ("two:b", 0.5)):
        for seed in range(20):
            append(
                project / "both.jsonl",
                train_once(lambda seed, mean=mean: mean + 0.001 * (seed % 5), seed, name),
            )
    write(project, reference="'both.jsonl'")
    assert "holds runs of two:a, two:b, none of test_mine:train" in run(project, code=1)
    for seed in range(20):
        append(
            project / "both.jsonl",
            train_once(lambda seed: 0.95 + 0.001 * (seed % 5), seed, "test_mine:train"),
        )
    assert "(20)" in run(project)


def test_the_file_of_verdicts_is_tried_before_and_is_of_this_session(project: Path) -> None:
    write(project)
    assert "--dlsys-json: cannot write" in run(project, "--dlsys-json", "none/v.json", code=4)
    (project / "v.json").write_text('[{"outcome": "PASS"}]')
    (project / "test_mine.py").write_text("def test_nothing():\n    pass\n")
    run(project, "--dlsys-json", "v.json")
    assert json.loads((project / "v.json").read_text()) == []
