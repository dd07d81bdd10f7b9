"""The plugin, by pytest runs in another project's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# pytester forgets the modules that an inner run imports, but numpy cannot be imported twice.
import dlsys_bench.plugin.gate
import dlsys_bench.timing.benchmark  # noqa: F401
from dlsys_bench.data import load
from dlsys_bench.errors import UserError
from dlsys_bench.plugin import cases, session, summary
from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.store import append
from dlsys_bench.studies.registry import studies

TEST = """
import pytest

@pytest.mark.dlsys_study("{study}")
def test_accuracy(dlsys_case, dlsys_gate):
    dlsys_gate(dlsys_case)

def test_of_the_project():
    pass
"""
ENGINE = """
from dlsys_bench.engines.numpy import NumpyEngine

class Shifted(NumpyEngine):
    name = "shifted"
    def fit(self, net, samples, *rest, **more):
        return super().fit(net, type(samples)(samples.x, (samples.y + 1) % 10), *rest, **more)
"""
TRAINING = """
import numpy as np
import pytest

REFERENCE = np.random.default_rng(7).normal(0.95, 0.004, 20).tolist()

def train(seed):
    return {mean} + 0.004 * np.random.default_rng(seed).normal()

def test_training(accuracy_gate):
    accuracy_gate(train, {reference}, {more})

def test_of_the_project():
    pass
"""
ARM = "cyclical-learning-rate/fixed"
NUMPY = ("--dlsys-engine", "numpy", "--dlsys-dataset", "digits")
Run = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _preload() -> None:
    studies()
    load("digits")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a test of an arm, and a broken engine. The bundled digits are its data."""
    monkeypatch.setenv("DLSYS_BENCH_DATA", "")
    for name in ("GITHUB_ACTIONS", "DLSYS_BENCH_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(test_project=TEST.format(study=ARM), broken=ENGINE)
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider")
    pytester.syspathinsert()
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Run:
    """Run pytest in this process, assert the exit code, and return the output."""

    def run_pytest(*arguments: str, code: int = 0) -> str:
        result = project.runpytest_inprocess("-p", "dlsys_bench.plugin", *arguments)
        printed = f"{result.stdout}\n{result.stderr}"
        assert result.ret == code, printed
        return printed

    return run_pytest


def run_process(project: pytest.Pytester, *arguments: str, code: int = 0) -> str:
    """Run pytest in a process, where the process is the point."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "dlsys_bench.plugin", *arguments],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(project.path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_training(
    project: pytest.Pytester,
    mean: float = 0.95,
    reference: str = "REFERENCE",
    more: str = "smallest_shift=0.02",
) -> None:
    text = TRAINING.format(mean=mean, reference=reference, more=more)
    (project.path / "test_project.py").write_text(text)


def edit(project: pytest.Pytester, old: str, new: str) -> None:
    path = project.path / "test_project.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def write_runs(project: pytest.Pytester, file: str, name: str, mean: float = 0.95) -> None:
    for seed in range(20):
        run = train_once(lambda seed: mean + 0.001 * (37 * seed % 101 % 5), seed, name)
        append(project.path / file, run)


def test_a_healthy_engine_passes_and_is_in_the_table(run: Run) -> None:
    printed = run(*NUMPY)
    assert "2 passed" in printed
    lines = printed.splitlines()
    labels = f"test_project.py::test_accuracy[numpy:{ARM}]  digits"
    assert lines[lines.index(labels) + 1].endswith("PASS")


@pytest.mark.slow
@pytest.mark.parametrize("more", [("-p", "no:benchmark"), ("-p", "no:xdist"), ("-n", "2")])
def test_the_table_does_not_depend_on_other_plugins(
    project: pytest.Pytester, more: tuple[str, ...]
) -> None:
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    printed = run_process(project, *NUMPY, *more)
    assert "2 passed" in printed
    assert f"test_project.py::test_accuracy[numpy:{ARM}]  digits" in printed


def test_a_broken_engine_fails_with_measured_band_source_and_replay(run: Run) -> None:
    broken = ("--dlsys-engine", "broken:Shifted", "--dlsys-dataset", "digits")
    printed = run(*broken, code=1)
    assert "1 failed, 1 passed" in printed
    assert "reference/cyclical-learning-rate.digits.quick.jsonl" in printed
    assert "replay: dlsys-bench gate" in printed
    assert "--engine broken:Shifted" in printed


@pytest.mark.slow
def test_an_arm_that_cannot_be_judged_is_skipped_with_its_reason(
    project: pytest.Pytester, run: Run
) -> None:
    edit(project, ARM, "regularization/lenet5-sigmoid/dropout")
    # A session that decides nothing is not green.
    assert "1 passed, 1 skipped" in run(*NUMPY, "-rs", code=1)
    printed = run(*NUMPY, "-rs", "--dlsys-inconclusive", "skip")
    assert "UNJUDGED: test_accuracy 0." in printed
    assert "1 passed, 1 skipped" in printed
    assert "1 verdict: 1 UNJUDGED" in printed


def test_collecting_loads_no_framework(project: pytest.Pytester) -> None:
    project.makeconftest(
        "import sys\n"
        "def pytest_configure():\n"
        "    print('STARTED', sorted({'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))\n"
        "def pytest_unconfigure():\n"
        "    print('LOADED', sorted({'torch', 'tensorflow', 'keras', 'jax'} & set(sys.modules)))\n"
    )
    printed = run_process(
        project, "--collect-only", "-q", "-s", "-p", "no:hypothesispytest", *NUMPY
    )
    assert f"test_accuracy[numpy:{ARM}" in printed
    assert "STARTED []" in printed
    assert "LOADED []" in printed


def test_the_end_states_what_is_left_out_and_how_to_get_it(
    project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "unavailable", lambda name: f"{name} is missing")
    monkeypatch.setattr(session, "missing_datasets", lambda used, _: list(used))
    monkeypatch.setattr(cases, "available", lambda: ["numpy"])
    printed = run()
    assert "left out: torch is missing" in printed
    assert f"left out: {ARM.partition('/')[0]}: dlsys-bench data fetch" in printed
    # What the session names is not left out, and a training of the user has neither.
    assert "left out" not in run(*NUMPY)
    write_training(project)
    assert "left out" not in run()


def test_a_dataset_is_missing_if_another_was_used_in_its_place(tmp_path: Path) -> None:
    study = ARM.partition("/")[0]
    assert session.missing_datasets({study: "digits", "x": "y"}, str(tmp_path)) == ["fashion_mnist"]
    assert session.missing_datasets({study: "fashion_mnist"}, str(tmp_path)) == []


def test_a_project_that_does_not_use_the_plugin_gets_no_output(
    project: pytest.Pytester, run: Run
) -> None:
    project.makepyfile(test_project="def test_of_the_project():\n    pass\n")
    printed = run()
    assert "1 passed" in printed
    assert "left out" not in printed
    assert "verdicts" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dlsys-engine", "nunpy"), 'did you mean "numpy"?'),
        (("--dlsys-max-seeds", "0"), "--dlsys-max-seeds: '0' is not an integer of at least 1"),
        (("--dlsys-alpha", "1"), "--dlsys-alpha: '1' is not a number between 0 and 1"),
        (("--dlsys-beta", "0"), "--dlsys-beta: '0' is not a number between 0 and 1"),
        (("--dlsys-tier", "slow"), "invalid choice: 'slow'"),
        (("--dlsys-json", "none/v.json"), "--dlsys-json: cannot write"),
    ],
)
def test_a_bad_option_is_a_usage_error(run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert message in run(*arguments, code=4)


def test_the_project_sets_defaults(project: pytest.Pytester, run: Run) -> None:
    project.makepyprojecttoml('[tool.dlsys_bench]\nengine = "numpy"\nmax-seeds = 3\n')
    printed = run("--collect-only", "-q")
    assert "tests/" not in printed
    assert f"[numpy:{ARM}]" in printed
    assert "[torch:" not in printed
    assert "at most 3 seeds each" in printed
    project.makepyprojecttoml("[tool.dlsys_bench]\nengin = 'numpy'\n")
    assert "unknown key 'engin' (did you mean \"engine\"?)" in run(code=4)
    project.makepyprojecttoml("[tool.dlsys_bench.pytest]\nmax-seeds = 0\n")
    assert "max-seeds is 0; expected an integer of at least 1" in run(code=4)


def test_an_unknown_study_is_an_error_that_names_the_nearest(
    project: pytest.Pytester, run: Run
) -> None:
    edit(project, ARM, "cyclical-learning-rat")
    assert 'did you mean "cyclical-learning-rate"?' in run(*NUMPY, code=2)


@pytest.mark.parametrize("dataset", ["mnits", "nowhere.npz"])
def test_a_dataset_that_does_not_exist_fails_the_test_in_one_line(run: Run, dataset: str) -> None:
    printed = run("--dlsys-engine", "numpy", "--dlsys-dataset", dataset, code=1)
    assert dataset in printed
    assert "Traceback" not in printed


def test_conftest_and_entry_point_load_the_plugin_once(project: pytest.Pytester, run: Run) -> None:
    project.makeconftest('pytest_plugins = ["dlsys_bench.plugin"]')
    assert "2 tests collected" in run("--collect-only", "-q", *NUMPY)


def test_hooks_change_engines_and_studies_and_receive_each_verdict(
    project: pytest.Pytester, run: Run
) -> None:
    project.makeconftest(
        "from dataclasses import replace\n"
        "def pytest_dlsys_engines(engines):\n"
        "    engines[:] = ['numpy']\n"
        "def pytest_dlsys_studies(config, studies):\n"
        "    study = studies['cyclical-learning-rate']\n"
        "    studies['renamed'] = replace(study, name='renamed')\n"
        "def pytest_dlsys_verdict(verdict):\n"
        "    print('HOOK', verdict.key.study, verdict.outcome)\n"
    )
    edit(project, ARM, "renamed/fixed")
    printed = run("-s", "--dlsys-dataset", "digits", code=1)
    assert "HOOK renamed INCONCLUSIVE" in printed
    assert "1 failed, 1 passed" in printed


@pytest.mark.parametrize(
    ("mean", "more", "message", "code"),
    [
        (0.95, "smallest_shift=0.02", "2 passed", 0),
        (0.95, "smallest_drop=0.02", "smallest_drop is deprecated; use smallest_shift", 0),
        (0.95, "smalest_drop=0.02", "unexpected keyword argument 'smalest_drop'", 1),
        (0.92, "smallest_shift=0.02", "FAIL: metric 0.9", 1),
        (0.92, "", "from a different distribution than 20 reference runs", 1),
        (0.98, "", "from a different distribution than 20 reference runs", 1),
        (0.98, "side='drop'", "2 passed", 0),
        (0.98, "better='higher'", "::test_training, metric: the runs are higher than", 0),
        (0.98, "better='lower'", "from a different distribution than 20 reference runs", 1),
        (0.951, "smallest_shift=0.001", "a smallest shift of 0.001 cannot be detected: 20 ref", 1),
        (0.95, "smallest_shift=-1", "smallest_shift is -1; expected a number above 0", 1),
        (0.95, "metric='accuracy'", "returned no 'accuracy'", 1),
    ],
)
def test_any_training_is_compared_with_values_it_gave_before(
    project: pytest.Pytester, run: Run, mean: float, more: str, message: str, code: int
) -> None:
    write_training(project, mean, more=more)
    # Sentences are folded to the width of the terminal.
    printed = " ".join(run("-rs", code=code).split())
    assert message in printed
    budget = "dlsys_bench: 1 gate; false-alarm rate 0.001 (1.0e-03 each), power 0.99"
    assert budget in printed


def test_any_training_is_compared_with_a_file_of_its_runs(
    project: pytest.Pytester, run: Run
) -> None:
    write_training(project, reference="'stored/runs.jsonl'")
    command = "dlsys-bench calibrate test_project:train --seeds 20 --output stored/runs.jsonl"
    assert command in run(code=1)
    write_runs(project, "stored/runs.jsonl", "m")
    assert "2 passed" in run()
    write_training(project, mean=0.9, reference="'stored/runs.jsonl'")
    replay = "replay: dlsys-bench gate test_project:train --reference stored/runs.jsonl"
    assert replay in run(code=1)
    write_training(project, reference="'stored/runs.jsonl'", more="first_seed=10")
    assert "seed 10 is also the seed of a reference run" in run(code=1)


def test_runs_of_several_trainings_are_not_one_distribution(
    project: pytest.Pytester, run: Run
) -> None:
    write_runs(project, "both.jsonl", "two:a")
    write_runs(project, "both.jsonl", "two:b", mean=0.5)
    write_training(project, reference="'both.jsonl'")
    assert "holds runs of two:a, two:b, none of test_project:train" in run(code=1)
    write_runs(project, "both.jsonl", "test_project:train")
    assert "(20)" in run()


def test_a_gate_is_selected_by_its_marker_and_judges_once(
    project: pytest.Pytester, run: Run
) -> None:
    write_training(project)
    assert "1 passed, 1 deselected" in run("-m", "gate")
    edit(project, "    accuracy_gate(", "    accuracy_gate(train, REFERENCE)\n    accuracy_gate(")
    assert "a gate judges once per test" in run(code=1)


def test_a_gate_that_was_not_counted_does_not_judge(project: pytest.Pytester, run: Run) -> None:
    write_training(project)
    edit(
        project,
        "def test_training(accuracy_gate):",
        "def test_training(request):\n    accuracy_gate = request.getfixturevalue('accuracy_gate')",
    )
    assert "request a gate as an argument of the test" in run(code=1)


def test_inconclusive_fails_unless_it_is_requested_to_skip(
    project: pytest.Pytester, run: Run
) -> None:
    write_training(project, reference="[0.9]", more="")
    printed = " ".join(run(code=1).split())
    assert "INCONCLUSIVE: metric 0.9508 (1 seed): 1 reference run" in printed
    assert "1 failed, 1 passed" in printed
    counted = "1 verdict: 1 INCONCLUSIVE (counts as"
    assert f"{counted} failed; --dlsys-inconclusive skip changes that)" in printed
    printed = " ".join(run("--dlsys-inconclusive", "skip").split())
    assert "1 passed, 1 skipped" in printed
    assert f"{counted} skipped; --dlsys-inconclusive fail changes that)" in printed


def test_nothing_is_trained_if_one_of_several_metrics_cannot_be_judged(
    project: pytest.Pytester, run: Run
) -> None:
    (project.path / "test_two.py").write_text(
        "from dlsys_bench.runs.callables import train_once\n"
        "from dlsys_bench.runs.store import append\n"
        "def train(seed):\n"
        "    assert seed < 100, 'trained'\n"
        "    return {'a': 0.9 + 0.001 * (37 * seed % 101 % 5), 'b': 1 + 0.1 * (seed % 7)}\n"
        "def test_two(accuracy_gate, tmp_path):\n"
        "    for seed in range(20):\n"
        "        append(tmp_path / 'r.jsonl', train_once(train, seed, 'test_two:train'))\n"
        "    shifts = {'a': 0.02, 'b': 0.001}\n"
        "    accuracy_gate(train, tmp_path / 'r.jsonl', metric=['a', 'b'], smallest_shift=shifts)\n"
    )
    printed = run("test_two.py", code=1)
    assert "a smallest shift of 0.001 cannot be detected" in printed
    assert "trained'" not in printed.split("short test summary")[-1]


def test_an_exception_of_a_training_is_shown_unchanged(project: pytest.Pytester, run: Run) -> None:
    write_training(project)
    edit(project, "return 0.95", "raise RuntimeError('out of memory')\n    return 0.95")
    assert "RuntimeError: out of memory" in run(code=1)


def check_outputs(project: pytest.Pytester, printed: str) -> None:
    (verdict,) = json.loads((project.path / "verdicts.json").read_text())
    assert (verdict["outcome"], verdict["study"]) == ("FAIL", "test_project:train")
    assert "::error title=callable/test_project%3Atrain::metric 0.9" in printed
    assert "test_project.py::test_training" in (project.path / "summary.md").read_text()
    assert "dlsys_verdict" in (project.path / "junit.xml").read_text()


OUTPUTS = ("--dlsys-json", "verdicts.json", "--junitxml", "junit.xml")


@pytest.fixture
def on_github(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    write_training(project, mean=0.9)


@pytest.mark.usefixtures("on_github")
def test_verdicts_go_to_json_junit_and_github(project: pytest.Pytester, run: Run) -> None:
    check_outputs(project, run(*OUTPUTS, code=1))


@pytest.mark.usefixtures("on_github")
def test_verdicts_of_workers_go_to_json_junit_and_github(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    check_outputs(project, run_process(project, "-n", "1", *OUTPUTS, code=1))


def test_a_table_that_cannot_be_built_loses_no_verdict(
    project: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UserError("the name 'x' is used by both one and two")

    monkeypatch.setattr(summary, "_missing_datasets", fail)
    printed = run("--dlsys-json", "v.json", "--dlsys-engine", "numpy")
    assert "left out: the name 'x' is used by both one and two" in printed
    assert len(json.loads((project.path / "v.json").read_text())) == 1


def test_an_entry_point_that_is_left_out_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "LEFT_OUT", {"the entry point of x is left out": None})
    printed = run("--collect-only", "-q", "-W", "error", *NUMPY)
    assert "dlsys_bench: the entry point of x is left out" in printed


def test_the_file_of_verdicts_holds_those_of_this_session(
    project: pytest.Pytester, run: Run
) -> None:
    (project.path / "v.json").write_text('[{"outcome": "PASS"}]')
    project.makepyfile(test_project="def test_nothing():\n    pass\n")
    run("--dlsys-json", "v.json")
    assert json.loads((project.path / "v.json").read_text()) == []


MANY = """
from pathlib import Path

import numpy as np
import pytest

from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.store.text import write_text

NUMBERS = range(12)


def training(number, drop):
    def train(seed):
        return np.random.default_rng([number, seed]).normal(0.9 - drop, 0.01)

    train.__qualname__ = f"train_{{number}}"
    return train


@pytest.mark.parametrize("number", NUMBERS)
def test_each(accuracy_gate, number):
    first, file = {apart} * number, f"{{number}}.jsonl"
    healthy, judged = training(number, 0.0), training(number, {drop})
    runs = [train_once(healthy, seed) for seed in range(first, first + 20)]
    write_text(Path(file), runs)
    accuracy_gate(judged, file, smallest_shift=0.06, first_seed=10_000 + first)
"""


@pytest.mark.parametrize(
    ("drop", "apart", "code", "outcome"),
    [
        (0.0, 100, 0, "PASS"),
        (0.015, 100, 1, "FAIL"),
        # Trainings that share their seeds may depend on each other, and count as one.
        (0.015, 0, 0, "INCONCLUSIVE"),
    ],
)
def test_a_drop_in_every_arm_fails_the_session(
    pytester: pytest.Pytester, drop: float, apart: int, code: int, outcome: str
) -> None:
    pytester.makepyfile(MANY.format(drop=drop, apart=apart))
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    done.stdout.fnmatch_lines([f"{outcome}: callable, 24 runs of 12 arms together: *"])
    verdicts = done.outlines[done.outlines.index(f"{' dlsys_bench verdicts ':=^80}") :]
    assert max(map(len, verdicts)) <= 80
    # Each gate alone passes: a shift of six standard deviations is ruled out.
    done.assert_outcomes(passed=12)
    assert done.ret == code
