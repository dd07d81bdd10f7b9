"""The monitor of a GPU, and timings on a GPU that was slowed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.runs.key import Key
from dlsys_bench.timing import device, to_accuracy
from dlsys_bench.timing.comparison import compare_benchmarks
from dlsys_bench.timing.gpu_monitor import GpuMonitor
from dlsys_bench.timing.ratio import Speed
from dlsys_bench.timing.sweep import Point, measure
from dlsys_bench.timing.target import Target

IDLE, HOT = 0x1, 0x20


def masks(nvml: Any, *values: int | None) -> list[dict[str, Any]]:
    return [nvml.with_mask(mask) for mask in values]


@pytest.mark.parametrize(
    ("before", "after", "slowed_by"),
    [
        (IDLE, 0, []),
        (IDLE, HOT, ["software thermal slowdown"]),
        (0x84, IDLE, ["hardware power brake", "software power cap"]),
        (0x2, 0x102, []),
        (None, 0, []),
        (None, None, None),
    ],
)
def test_reasons_at_either_end_count(
    nvml: Any, before: int | None, after: int | None, slowed_by: list[str] | None
) -> None:
    nvml.answers(*masks(nvml, before, after))
    with GpuMonitor("cuda") as gpu:
        pass
    assert gpu.slowed_by == slowed_by
    info = json.loads(json.dumps(gpu.info))["gpu"]
    assert info["slowed_by"] == slowed_by
    assert info["before"]["driver"] == info["after"]["driver"] == "550.54.15"


@pytest.mark.parametrize(
    ("nanoseconds", "slowed_by"), [(40_000_000, []), (60_000_000, ["software power cap"])]
)
def test_reasons_that_ended_before_the_exit_count(
    nvml: Any, nanoseconds: int, slowed_by: list[str]
) -> None:
    """The GPU was slowed for 4% and for 6% of a second."""
    nvml.answers(nvml.newer(IDLE), nvml.newer(IDLE, sw_power_cap=7_000_000_000 + nanoseconds))
    with GpuMonitor("cuda") as gpu:
        pass
    gpu.seconds = 1.0
    assert gpu.slowed_by == slowed_by


def test_other_devices_have_no_info(nvml: Any) -> None:
    for name in ("cpu", "tpu"):
        with GpuMonitor(name) as gpu:
            pass
        assert gpu.info == {}
    assert not nvml.asked
    nvml.becomes("fails")
    with GpuMonitor("cuda") as gpu:
        pass
    assert gpu.info == {"gpu": None}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an engine that reports a GPU as its device."""
    (tmp_path / "elsewhere.py").write_text(
        "from dlsys_bench.engines.numpy import NumpyEngine\n"
        "class Elsewhere(NumpyEngine):\n"
        "    def __init__(self, device, dtype):\n"
        "        super().__init__('cpu', dtype)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "elsewhere:Elsewhere"


def test_a_time_to_accuracy_on_a_gpu_has_its_info(nvml: Any, locks: Path, elsewhere: str) -> None:
    nvml.answers(*masks(nvml, IDLE, IDLE, HOT))
    target = Target("test_accuracy", 0.1, 0.99, 0.95, 0.02, 20, "reference/x.jsonl")
    key = Key("regularization/fashion-mlp", "vanilla", "digits", "quick", elsewhere, "cuda", seed=1)
    run = to_accuracy.Run(key, target)
    measured = to_accuracy.measure(run)
    assert measured["reached"]
    assert measured["gpu"]["slowed_by"] == ["software thermal slowdown"]
    assert [path.name for path in locks.glob("dlsys_bench-*")] == [
        f"dlsys_bench-{nvml.h100['nvmlDeviceGetUUID']}.lock"
    ]
    assert "gpu" not in to_accuracy.measure(
        replace(run, key=replace(key, engine="numpy", device="cpu"))
    )


def test_a_point_on_a_gpu_has_its_info(nvml: Any, locks: Path, elsewhere: str) -> None:
    nvml.answers(*masks(nvml, IDLE, IDLE, HOT))
    point = Point(elsewhere, "cuda", study="eggholder", arm="16-16")
    info = measure(point, 0.1)["gpu"]
    assert (info["slowed_by"], info["before"]["reasons"]) == (
        ["software thermal slowdown"],
        ["idle"],
    )
    # The lock is named after the GPU.
    assert [path.name for path in locks.glob("dlsys_bench-*")] == [
        f"dlsys_bench-{nvml.h100['nvmlDeviceGetUUID']}.lock"
    ]
    assert "gpu" not in measure(Point("numpy", study="eggholder", arm="16-16"), 0.1)


@pytest.mark.parametrize(
    ("gpus", "verdict", "cell"),
    [
        (([], []), Speed.FASTER, "not"),
        ((None, None), Speed.FASTER, "-"),
        ((["sync boost"], []), Speed.AMBIGUOUS, "sync boost"),
        (([], ["sync boost"]), Speed.AMBIGUOUS, "sync boost"),
        ((None, ["sync boost"]), Speed.AMBIGUOUS, "sync boost"),
    ],
)
def test_a_benchmark_on_a_slowed_gpu_is_ambiguous(
    gpus: tuple[list[str] | None, list[str] | None], verdict: Speed, cell: str, tmp_path: Path
) -> None:
    paths = []
    for side, (slowed_by, seconds) in enumerate(zip(gpus, (1.0, 0.5), strict=True)):
        rounds = [seconds + 0.001 * number for number in range(20)]
        info = {"gpu": {"slowed_by": slowed_by}} if slowed_by is not None or side else {}
        one = {"fullname": "t", "stats": {"data": rounds, "median": seconds}, "extra_info": info}
        paths.append(tmp_path / f"{side}.json")
        paths[-1].write_text(json.dumps({"benchmarks": [one]}))
    ((change,), _) = compare_benchmarks(*paths)
    assert change.speed is verdict
    assert change.to_dict()["gpu_slowed_by"] == (
        None if cell == "-" else [] if cell == "not" else [cell]
    )
    done = CliRunner().invoke(cli, ["bench", "compare", *map(str, paths)], env={"COLUMNS": "300"})
    assert done.exit_code == (3 if verdict is Speed.AMBIGUOUS else 0), done.output
    if cell == "-":
        assert "GPU slowed by" not in done.output
        return
    heads, row = (
        next(line for line in done.output.splitlines() if name in line)
        for name in ("verdict", verdict)
    )
    assert row[heads.index("GPU slowed by") :].startswith(f"{cell} ")


def torch(bytes_held: int, *, started: bool = True) -> Any:
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: started, max_memory_allocated=lambda: bytes_held
        )
    )


def jax(platform: str, stats: dict[str, int] | None) -> Any:
    return SimpleNamespace(
        devices=lambda: [SimpleNamespace(platform=platform, memory_stats=lambda: stats)]
    )


@pytest.mark.parametrize(
    ("modules", "started", "most"),
    [
        ((None, None), False, None),
        ((torch(5), None), False, 5),
        ((torch(5, started=False), None), False, None),
        ((None, jax("gpu", {"peak_bytes_in_use": 7})), True, 7),
        ((None, jax("cpu", None)), True, None),
        ((torch(5), jax("gpu", {"peak_bytes_in_use": 7})), True, 7),
    ],
)
def test_the_peak_memory_on_a_gpu(
    modules: tuple[Any, Any], started: bool, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = SimpleNamespace(backends_are_initialized=lambda: started)
    for name, module in zip(
        ("torch", "jax", "jax._src.xla_bridge"), (*modules, bridge), strict=True
    ):
        monkeypatch.setitem(sys.modules, name, module)
    assert device.device_memory() == ({} if most is None else {"peak_device_memory_bytes": most})
    assert device.in_use() == (most is not None)


def test_a_gpu_without_memory_statistics_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = SimpleNamespace(backends_are_initialized=lambda: True)
    for name, module in (
        ("torch", None),
        ("jax", jax("gpu", None)),
        ("jax._src.xla_bridge", bridge),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    assert device.in_use()
    assert device.device_memory() == {}


def test_reading_the_memory_does_not_start_a_framework() -> None:
    pytest.importorskip("jax")
    code = (
        "import jax\n"
        "from jax._src import xla_bridge\n"
        "from dlsys_bench.timing.device import device_memory, in_use\n"
        "print(in_use(), device_memory(), xla_bridge.backends_are_initialized())\n"
        "jax.devices()\n"
        "print(in_use(), xla_bridge.backends_are_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False {} False"
    assert done.stdout.splitlines()[1].endswith("True")
