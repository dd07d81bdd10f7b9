"""The fixture `train_benchmark` as a stranger uses it, and `dlsys-bench bench compare` on what it
wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.timing.peak import matrix_peak, memory_bandwidth

pytest_plugins = ["pytester"]

STEP = """
    import time
    import numpy as np

    class Line:
        weight, rate, wait = np.zeros(3), {rate}, {wait}

        def step(self):
            time.sleep(self.wait)
            error = self.weight - np.array([1.0, 2.0, 3.0])
            self.weight = self.weight - self.rate * error
            return {loss}

    def test_line(train_benchmark):
        line = Line()
        train_benchmark(line.step, samples=32, steps=4, rounds=9, flops=6, weights=lambda: {{"weight": line.weight}})
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner pytest is no worker of this one's: as one it would time nothing."""
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)


def run(
    pytester: pytest.Pytester,
    *args: str,
    rate: float = 0.1,
    wait: float = 0.001,
    loss: str = "error @ error",
) -> pytest.RunResult:
    pytester.makepyfile(test_line=STEP.format(rate=rate, wait=wait, loss=loss))
    return pytester.runpytest_subprocess("-p", "no:randomly", *args)


def test_what_a_step_costs_is_told(pytester: pytest.Pytester) -> None:
    run(pytester, "--benchmark-only", "--benchmark-json=a.json").assert_outcomes(passed=1)
    (found,) = json.loads((pytester.path / "a.json").read_text())["benchmarks"]
    told = found["extra_info"]
    assert told["microseconds_per_step"] == pytest.approx(1e6 * found["stats"]["median"] / 4)
    assert told["samples_per_second"] == pytest.approx(32e6 / told["microseconds_per_step"])
    assert told["gflops"] == pytest.approx(6e-9 * told["samples_per_second"])
    assert told["of_matrix_peak"] == pytest.approx(told["gflops"] / told["matrix_peak_gflops"])
    assert told["loss_last"] < told["loss_first"] == 14.0
    assert told["first_step_seconds"] > 0.001
    assert told["peak_memory_bytes"] > 2**20
    assert "numpy" in told["versions"]
    assert "gpu" not in told


def test_it_proves_training_where_nothing_is_timed(pytester: pytest.Pytester) -> None:
    run(pytester, "--benchmark-disable").assert_outcomes(passed=1)
    run(pytester, "--benchmark-disable", rate=0.0).assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rate": 0.0}, "the loss did not fall"),
        ({"rate": -0.1}, "the loss did not fall"),
        ({"loss": "float('nan')"}, "the loss of step 1 is nan"),
        ({"loss": "'low'"}, "step() returned str; it has to return the loss, a number"),
    ],
)
def test_what_does_not_train_fails(
    pytester: pytest.Pytester, changed: dict[str, Any], said: str
) -> None:
    done = run(pytester, "--benchmark-only", **changed)
    done.assert_outcomes(failed=1)
    assert said in done.stdout.str()


def test_torch_and_jax_are_waited_for(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        class Loss(float):
            waited = []
            def block_until_ready(self):
                self.waited.append(float(self))

        def test_waits(train_benchmark):
            losses = iter(range(100, 0, -1))
            train_benchmark(lambda: Loss(next(losses)), samples=1, steps=3, rounds=2)
            # After the first step, then once a round and not once a step.
            assert Loss.waited == [100, 97, 94, 91]
        """
    )
    pytester.runpytest_subprocess("--benchmark-only").assert_outcomes(passed=1)


@pytest.mark.parametrize(("device", "started"), [("cuda", False), ("cpu", True)])
def test_a_step_on_a_gpu_has_it_alone_and_tells_of_it(
    pytester: pytest.Pytester, nvml: Any, locks: Path, device: str, started: bool
) -> None:
    """By what its author says, or by a framework that is on one after the first step."""
    nvml.answers(nvml.with_mask(0x20))
    pytester.makepyfile(
        f"""
        import fcntl, sys
        from types import SimpleNamespace

        held = []

        def test_step(train_benchmark, monkeypatch):
            cuda = SimpleNamespace(is_initialized=lambda: {started} and bool(held), max_memory_allocated=lambda: 7)
            monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
            losses = iter(range(100, 0, -1))

            def step():
                try:
                    with open({str(locks / ("dlsys_bench-" + nvml.h100["nvmlDeviceGetUUID"] + ".lock"))!r}) as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    held.append(False)
                except FileNotFoundError:
                    held.append(False)
                except BlockingIOError:
                    held.append(True)
                return next(losses)

            train_benchmark(step, samples=1, steps=3, rounds=2, device={device!r})
            assert held == [{not started}] + 9 * [True]
        """
    )
    pytester.runpytest_subprocess("--benchmark-only", "--benchmark-json=a.json").assert_outcomes(
        passed=1
    )
    (found,) = json.loads((pytester.path / "a.json").read_text())["benchmarks"]
    assert found["extra_info"]["gpu"]["slowed_by"] == ["software thermal slowdown"]
    assert found["extra_info"]["gpu"]["after"]["name"] == nvml.h100["nvmlDeviceGetName"]
    assert found["extra_info"].get("peak_device_memory_bytes") == (7 if started else None)


def test_two_files_are_compared(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    run(pytester, "--benchmark-only", "--benchmark-json=a.json", wait=0.010)
    run(pytester, "--benchmark-only", "--benchmark-json=b.json", wait=0.001)
    monkeypatch.chdir(pytester.path)
    # The machine of a test may be loaded between the two; here the sleeps alone are to be told
    # apart.
    for name in ("a.json", "b.json"):
        values = json.loads(Path(name).read_text())
        values["benchmarks"][0]["extra_info"] |= {"matrix_peak_gflops": 100.0, "others_share": 0.0}
        Path(name).write_text(json.dumps(values))
    for pair, verdict, code in (
        (("a.json", "b.json"), "FASTER", 0),
        (("b.json", "a.json"), "SLOWER", 1),
    ):
        done = CliRunner().invoke(cli, ["bench", "compare", *pair, "--json"])
        (change,) = json.loads(done.stdout)["changes"]
        assert (change["speed"], done.exit_code) == (verdict, code)
        assert change["low"] <= change["ratio"] <= change["high"]
    done = CliRunner().invoke(cli, ["bench", "compare", "a.json", "a.json"])
    assert done.exit_code == 3
    assert "AMBIGUOUS" in done.stdout


def test_files_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:

    good, other = tmp_path / "good.json", tmp_path / "other.json"
    one = {"fullname": "test_a", "stats": {"median": 1.0, "data": [1.0] * 7}}
    good.write_text(json.dumps({"benchmarks": [one]}))
    for text, said in (
        ("{", "is not a file of pytest-benchmark"),
        (json.dumps({"benchmarks": [one | {"stats": {"median": 1.0}}]}), "has no rounds of test_a"),
        (
            json.dumps({"benchmarks": [one | {"fullname": "test_b"}]}),
            "have no benchmark in common: test_a; test_b",
        ),
    ):
        other.write_text(text)
        done = CliRunner().invoke(cli, ["bench", "compare", str(good), str(other)])
        assert done.exit_code == 2
        assert said in done.stderr


def test_the_peaks_are_of_this_machine() -> None:
    # Whatever the machine: more than a thousandth and less than a thousand times of one core of
    # today.
    assert 1e9 < matrix_peak() < 1e14
    assert 1e8 < memory_bandwidth() < 1e13
