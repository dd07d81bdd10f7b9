"""The ways in: from Python, from a test of one's own, from pytest in an empty folder, from the
command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from dlsys_bench import NotConformingError, check_engine, parametrize_with_checks
from dlsys_bench.conformance.check import CHECKS, RUNGS, Trial
from dlsys_bench.conformance.compliance import Compliance, changes
from dlsys_bench.conformance.ladder import climb, select
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.runner import LocalRunner, Options, engine_factory
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.dense import DenseRule
from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import UserError

pytest_plugins = ["pytester"]
HERE = Path(__file__).parent


class HalfBias(NumpyEngine):
    """A broken twin: its dense layers learn their biases at half the speed."""

    def build(self, model: Any, weights: Any = None, *, seed: int = 0) -> Any:
        net = super().build(model, weights, seed=seed)
        for rule in net.rules:
            if isinstance(rule, DenseRule):
                rule.backward = _halving(rule)  # type: ignore[method-assign]
        return net


def _halving(rule: DenseRule) -> Any:
    whole = rule.backward

    def backward(dy: Array, wants_dx: bool) -> Array | None:
        dx = whole(dy, wants_dx)
        if rule.layer.use_bias:
            rule.gradients["bias"][...] *= 0.5
        return dx

    return backward


class NoPools(NumpyEngine):
    lacks = {"layer:max_pool": "not written yet", "optimizer:rmsprop": "nor this"}  # noqa: RUF012


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(HERE), *sys.path])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_every_check_is_on_a_rung_and_every_rung_has_checks() -> None:
    assert list(dict.fromkeys(check.rung for check in CHECKS.values())) == list(RUNGS)
    assert len(CHECKS) == len({check.name for check in CHECKS.values()}) > 100


def test_a_broken_engine_is_named_by_rung_layer_tensor_and_example() -> None:
    with pytest.raises(NotConformingError) as raised:
        check_engine(HalfBias, checks=["forward", "gradient", "loss"])
    results = {result.name: result for result in raised.value.results}
    assert results["forward/dense"].status is Status.PASSED
    finding = results["gradient/dense"].finding
    assert finding is not None
    assert (finding.layer, finding.tensor) == ("dense_2", "dense_2.bias")
    # As small as it gets: one layer under the last, the fewest samples.
    assert finding.example is not None
    assert "dense(units=3), dense(units=2); 1 samples" in finding.example
    assert results["loss/hinge"].status is Status.NOT_REACHED
    assert "the rung gradient broke" in str(results["loss/hinge"].reason)
    assert "checks above were not reached" in str(raised.value)


def test_beyond_goes_on_above_a_rung_that_breaks() -> None:
    results = check_engine(HalfBias, "collect", checks=["gradient/dense", "loss"], beyond=True)
    assert [result.status for result in results] == [Status.FAILED, *[Status.PASSED] * 7]


def test_what_an_engine_lacks_is_declared_and_said() -> None:
    results = {
        o.name: o
        for o in check_engine(NoPools(), checks=["forward/max_pool", "forward/network", "step"])
    }
    assert results["forward/max_pool"].status is Status.DECLARED
    assert results["forward/max_pool"].reason == "layer:max_pool: not written yet"
    assert results["step/rmsprop"].reason == "optimizer:rmsprop: nor this"
    assert results["forward/network"].status is Status.PASSED


def test_what_is_declared_is_heard_though_there_is_no_time() -> None:
    # Hypothesis takes it for a failure and tries again; the end of the time once passed it over, on
    # a slow machine.
    (result,) = check_engine(
        NoPools, "collect", checks=["trajectory/fit-max_pool"], options=Options(budget=1e-6)
    )
    assert result.status is Status.DECLARED


def test_an_error_of_a_check_is_heard_though_there_is_no_time() -> None:
    def body(example: int) -> None:
        raise ZeroDivisionError(str(example))

    with pytest.raises(ZeroDivisionError, match="0"):
        Trial(engine_factory("numpy", "cpu"), budget=1e-6).search(st.integers(0, 9), body)


def test_an_example_that_cannot_be_compared_is_not_counted() -> None:
    compared = []

    def body(example: int) -> None:
        assume(example > 3)
        compared.append(example)

    trial = Trial(engine_factory("numpy", "cpu"), budget=1e-6)
    trial.search(st.integers(0, 9), body)
    assert trial.drawn == len(compared) >= 3


def test_a_check_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match='did you mean "gradient/conv2d"'):
        check_engine("numpy", checks=["gradient/conv2"])
    with pytest.raises(UserError, match='takes "raise" or "collect"'):
        check_engine("numpy", "ignore")  # type: ignore[arg-type]


def test_a_replay_finds_the_same(tmp_path: Path) -> None:
    (result,) = check_engine(
        HalfBias, "collect", checks=["gradient/dense"], options=Options(seed=3)
    )
    assert result.replay is not None
    assert "test_check_engine:HalfBias --check gradient/dense --seed 3" in result.replay
    again = run("dlsys_bench", *result.replay.split()[1:], "--json", folder=tmp_path)
    assert again.returncode == 1, again.stderr
    assert json.loads(again.stdout)["outcomes"][0]["finding"] == result.finding.to_dict()  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(1, 4))
def test_a_healthy_engine_conforms_whatever_is_drawn(seed: int) -> None:
    here = LocalRunner(engine_factory("numpy", "cpu"), Options(seed=seed, examples=20))
    selected = [check for check in select(None) if check.rung != "distribution"]
    failed = [o.message() for o in climb([here], selected) if o.status is not Status.PASSED]
    assert not failed


@parametrize_with_checks(["numpy", NoPools], ["loss", "step/rmsprop"])
def test_the_decorator(check: Any) -> None:
    check()


def test_the_decorator_fails_skips_and_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from dlsys_bench import parametrize_with_checks
        from test_check_engine import HalfBias, NoPools

        @parametrize_with_checks([HalfBias, NoPools()], ["gradient/dense", "gradient/max_pool"])
        def test_engine(check):
            check()
        """
    )
    pytester.runpytest("-p", "no:randomly").assert_outcomes(passed=1, failed=2, skipped=1)


def test_pyargs_from_an_empty_folder(tmp_path: Path) -> None:
    arguments = [
        "pytest",
        "--pyargs",
        "dlsys_bench.conformance",
        "-q",
        "-rs",
        "-k",
        "gradient or loss or shapes-dense",
    ]
    done = run(
        *arguments,
        "--dlsys-engine",
        "test_check_engine:HalfBias",
        "-p",
        "no:cacheprovider",
        folder=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "d dense_2.bias is" in done.stdout
    assert "7 skipped" in done.stdout
    assert "not reached: the rung gradient broke" in done.stdout


def test_the_command_line_from_an_empty_folder(tmp_path: Path) -> None:
    healthy = ["dlsys_bench", "conform", "--check", "loss", "--check", "step", "--output", "before"]
    done = run(*healthy, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "before").iterdir()) == [
        f"numpy.{kind}" for kind in ("html", "json", "md", "svg")
    ]
    page = (tmp_path / "before" / "numpy.html").read_text()
    assert "looked at in part" in page
    assert f"13 of {len(CHECKS)} looked at" in (tmp_path / "before" / "numpy.svg").read_text()
    broken = [
        "--engine",
        "test_check_engine:HalfBias",
        "--against",
        "before/numpy.json",
        "--output",
        "after",
    ]
    done = run("dlsys_bench", "conform", "--check", "step", *broken, folder=tmp_path)
    assert done.returncode == 1
    assert "step/sgd: passed before, failed now" in done.stderr
    assert "loss/hinge: passed before, not there now" in done.stderr
    assert "breaks at step" in (tmp_path / "after" / "test_check_engine.HalfBias.svg").read_text()
    done = run("dlsys_bench", "conform", "--engine", "nunpy", folder=tmp_path)
    assert done.returncode == 2
    assert 'did you mean "numpy"' in done.stderr


def report(**statuses: Status) -> Compliance:
    names = {"loss_hinge": "loss/hinge", "step_sgd": "step/sgd"}
    results = [CheckResult(names[name], status) for name, status in statuses.items()]
    return Compliance("mine", "cpu", 0, results, list(names.values()))


def test_a_report_conforms_only_if_everything_ran() -> None:
    assert report(loss_hinge=Status.PASSED, step_sgd=Status.PASSED).conforms
    assert report(loss_hinge=Status.PASSED, step_sgd=Status.DECLARED).conforms
    for bad in (Status.FAILED, Status.NOT_REACHED):
        assert not report(loss_hinge=Status.PASSED, step_sgd=bad).conforms
    fewer = report(loss_hinge=Status.PASSED)
    assert not fewer.conforms
    assert fewer.missing == ["step/sgd"]
    assert "1 did not run" in fewer.summary()
    # An engine that declares everything has shown nothing.
    assert not report(loss_hinge=Status.DECLARED, step_sgd=Status.DECLARED).conforms


def test_a_report_of_some_checks_says_so() -> None:
    results = [CheckResult("loss/hinge", Status.PASSED)]
    some = Compliance("mine", "cpu", 0, results, ["loss/hinge", "step/sgd"], ["loss/hinge"])
    assert some.conforms
    assert some.partial
    assert some.summary() == "mine conforms as far as was asked: 1 passed of 2 checks"


def test_reports_survive_a_file_and_tell_what_changed(tmp_path: Path) -> None:
    before, after = (
        report(loss_hinge=Status.PASSED, step_sgd=Status.PASSED),
        report(loss_hinge=Status.FAILED),
    )
    path = tmp_path / "report.json"
    path.write_text(json.dumps(before.to_dict()))
    assert changes(Compliance.read(path), after) == [
        ("loss/hinge", "passed", "failed"),
        ("step/sgd", "passed", "not there"),
    ]
    path.write_text("{}")
    with pytest.raises(UserError, match="is no report"):
        Compliance.read(path)


def test_an_engine_of_another_kind_is_refused_with_what_it_lacks() -> None:
    class NotAnEngine:
        pass

    (result,) = check_engine(NotAnEngine, "collect", checks=["loss/hinge"])  # type: ignore[arg-type]
    assert result.status is Status.FAILED
