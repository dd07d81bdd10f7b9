"""The fixture `train_benchmark`, and `dlsys-bench bench compare` of two files of benchmarks.

The fast tier calls the fixture with a stand-in for pytest-benchmark; the slow tier also uses it in
a separate pytest.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.errors import UserError
from dlsys_bench.timing.benchmark import TrainBenchmark
from dlsys_bench.timing.comparison import compare_benchmarks
from dlsys_bench.timing.peak import matrix_peak, memory_bandwidth
from dlsys_bench.timing.validity import NotTrainingError

pytest_plugins = ["pytester"]


class Benchmark:
    """A stand-in for the fixture of pytest-benchmark: rounds take `median` seconds.

    With None, benchmarks are disabled: there is one round, and no statistics.
    """

    def __init__(self, median: float | None = 0.004) -> None:
        self.enabled = median is not None
        self.stats = SimpleNamespace(stats=SimpleNamespace(median=median)) if median else None
        self.extra_info: dict[str, Any] = {}

    def pedantic(self, function: Callable[[], object], rounds: int, warmup_rounds: int) -> None:
        for _ in range(rounds + warmup_rounds if self.enabled else 1):
            function()


class Line:
    """A linear model with three weights, trained on one sample."""

    def __init__(self, rate: float = 0.1) -> None:
        self.weight, self.rate = np.zeros(3), rate

    def step(self) -> float:
        """Update the weights, and return the loss before."""
        error = self.weight - np.array([1.0, 2.0, 3.0])
        self.weight = self.weight - self.rate * error
        return float(error @ error)


def train(benchmark: Benchmark, line: Line, step: Callable[[], Any] | None = None) -> None:
    weights = {"weight": line.weight}
    TrainBenchmark(benchmark)(
        step or line.step,
        samples=32,
        steps=4,
        rounds=9,
        flops=6,
        weights=lambda: weights | {"weight": line.weight},
    )


def test_the_rates_of_a_step() -> None:
    benchmark = Benchmark(median=0.004)
    train(benchmark, Line())
    info = benchmark.extra_info
    assert info["microseconds_per_step"] == pytest.approx(1000)
    assert info["samples_per_second"] == pytest.approx(32_000)
    assert info["gflops"] == pytest.approx(6 * 32_000 / 1e9)
    assert info["of_matrix_peak"] == pytest.approx(info["gflops"] / info["matrix_peak_gflops"])
    assert info["loss_last"] < info["loss_first"] == 14.0
    assert info["first_step_seconds"] > 0
    assert info["peak_memory_bytes"] > 2**20
    assert "numpy" in info["versions"]
    assert "gpu" not in info


def test_the_fixture_of_the_plugin(train_benchmark: TrainBenchmark) -> None:
    # Disabled, pytest-benchmark prints no table of it.
    train_benchmark.benchmark.disabled = True
    train_benchmark(Line().step, samples=32, steps=4, rounds=2)
    assert train_benchmark.benchmark.extra_info["samples"] == 32


def test_training_is_checked_if_benchmarks_are_disabled() -> None:
    benchmark = Benchmark(median=None)
    train(benchmark, Line())
    assert "samples_per_second" not in benchmark.extra_info
    with pytest.raises(NotTrainingError):
        train(Benchmark(median=None), Line(rate=0.0))


@pytest.mark.parametrize(
    ("rate", "step", "error", "message"),
    [
        (0.0, None, NotTrainingError, "the loss did not fall"),
        (-0.1, None, NotTrainingError, "the loss did not fall"),
        (0.1, lambda: float("nan"), NotTrainingError, "the loss of step 1 is nan"),
        (
            0.1,
            lambda: "low",
            UserError,
            "returned a str; it has to return the loss, a number",
        ),
    ],
)
def test_a_step_that_does_not_train_raises(
    rate: float, step: Callable[[], Any] | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(Benchmark(), Line(rate), step)


def test_unknown_options_raise() -> None:
    with pytest.raises(TypeError, match="round"):
        TrainBenchmark(Benchmark())(Line().step, samples=1, round=3)


def test_the_device_is_waited_for_once_per_round() -> None:
    class Loss(float):
        waited: list[float] = []  # noqa: RUF012

        def block_until_ready(self) -> None:
            self.waited.append(float(self))

    losses = iter(range(100, 0, -1))
    step = lambda: Loss(next(losses))  # noqa: E731
    TrainBenchmark(Benchmark())(step, samples=1, steps=3, rounds=2)
    assert Loss.waited == [100, 97, 94, 91]


@pytest.mark.parametrize(("device", "started"), [("cuda", False), ("cpu", True)])
def test_a_gpu_is_locked_while_a_step_is_timed(
    nvml: Any, locks: Path, device: str, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller names the GPU, or a framework uses one after the first step."""
    nvml.answers(nvml.with_mask(0x20))
    lock = locks / f"dlsys_bench-{nvml.h100['nvmlDeviceGetUUID']}.lock"
    locked: list[bool] = []
    cuda = SimpleNamespace(
        is_initialized=lambda: started and bool(locked), max_memory_allocated=lambda: 7
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    losses = iter(range(100, 0, -1))

    def step() -> int:
        locked.append(is_locked(lock))
        return next(losses)

    benchmark = Benchmark()
    TrainBenchmark(benchmark)(step, samples=1, steps=3, rounds=2, device=device)
    assert locked == [not started] + 9 * [True]
    assert benchmark.extra_info["gpu"]["slowed_by"] == ["software thermal slowdown"]
    assert benchmark.extra_info["gpu"]["after"]["name"] == nvml.h100["nvmlDeviceGetName"]
    assert benchmark.extra_info.get("peak_device_memory_bytes") == (7 if started else None)


def is_locked(path: Path) -> bool:
    """Return True if the file exists and is locked through another descriptor."""
    fcntl = pytest.importorskip("fcntl")
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


TEST = """
    import time
    import numpy as np

    weights = {"weight": np.zeros(3)}

    def step():
        time.sleep(0.001)
        error = weights["weight"] - np.array([1.0, 2.0, 3.0])
        weights["weight"] = weights["weight"] - 0.1 * error
        return error @ error

    def test_line(train_benchmark):
        train_benchmark(step, samples=32, steps=4, rounds=9, weights=lambda: dict(weights))
"""


@pytest.mark.slow
def test_the_fixture_in_a_separate_pytest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        # A worker of xdist would disable the benchmarks.
        monkeypatch.delenv(name)
    pytester.makepyfile(test_line=TEST)
    for name in ("a.json", "b.json"):
        done = pytester.runpytest_subprocess("--benchmark-only", f"--benchmark-json={name}")
        done.assert_outcomes(passed=1)
    (found,) = json.loads((pytester.path / "a.json").read_text())["benchmarks"]
    info = found["extra_info"]
    assert info["microseconds_per_step"] == pytest.approx(1e6 * found["stats"]["median"] / 4)
    ((change,), left_out) = compare_benchmarks(pytester.path / "a.json", pytester.path / "b.json")
    assert change.ratio.rounds == 9
    assert left_out == []


def write(path: Path, name: str = "test_a", **changes: Any) -> None:
    """Write a file of pytest-benchmark with one benchmark."""
    benchmark = {"fullname": name, "stats": {"median": 1.0, "data": [1.0] * 7}} | changes
    path.write_text(json.dumps({"benchmarks": [benchmark]}))


def test_two_files_are_compared(tmp_path: Path) -> None:
    slow, fast = tmp_path / "a.json", tmp_path / "b.json"
    for path, seconds in ((slow, 0.010), (fast, 0.001)):
        rounds = [seconds * (1 + 0.01 * number) for number in range(9)]
        write(path, stats={"median": rounds[4], "data": rounds})
    for files, verdict, code in (((slow, fast), "FASTER", 0), ((fast, slow), "SLOWER", 1)):
        done = CliRunner().invoke(cli, ["bench", "compare", *map(str, files), "--json"])
        (change,) = json.loads(done.stdout)["changes"]
        assert (change["speed"], done.exit_code) == (verdict, code)
        assert change["low"] <= change["ratio"] <= change["high"]
    done = CliRunner().invoke(cli, ["bench", "compare", str(slow), str(slow)])
    # The rounds of each become slower by 8%, so that it is unknown what the next would be.
    assert done.exit_code == 3
    assert "AMBIGUOUS" in done.stdout


def test_files_that_cannot_be_compared_are_rejected(tmp_path: Path) -> None:
    good, other = tmp_path / "good.json", tmp_path / "other.json"
    write(good)

    def rejected() -> str:
        done = CliRunner().invoke(cli, ["bench", "compare", str(good), str(other)])
        assert done.exit_code == 2
        return done.stderr

    other.write_text("{")
    assert "is not a file of pytest-benchmark" in rejected()
    write(other, stats={"median": 1.0})
    assert "has no rounds of test_a" in rejected()
    write(other, "test_b")
    assert "have no benchmark in common: test_a; test_b" in rejected()


def test_the_peaks_of_the_machine_are_plausible() -> None:
    # Between a thousandth and a thousand times those of one core of 2025.
    assert 1e9 < matrix_peak() < 1e14
    assert 1e8 < memory_bandwidth() < 1e13
