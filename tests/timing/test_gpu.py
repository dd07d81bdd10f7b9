"""The state of a GPU as NVML reports it, with old and new drivers."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from dlsys_bench.errors import MissingExtraError
from dlsys_bench.timing import gpu
from dlsys_bench.timing.gpu import Gpu, read, visible_gpu


def test_the_state_of_a_gpu(nvml: Any) -> None:
    assert read() == Gpu(
        name="NVIDIA H100 80GB HBM3",
        uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        driver="550.54.15",
        compute_mode="Default",
        sm_mhz=1755,
        sm_mhz_most=1980,
        memory_mhz=2619,
        memory_mhz_most=2619,
        celsius=41,
        watts=254.83,
        watts_most=700,
        memory_used_bytes=2**30,
        memory_bytes=81559 * 2**20,
        reasons=[],
        slowed_seconds=None,
    )


@pytest.mark.parametrize(
    ("mask", "reasons"),
    [
        (0x001, ["idle"]),
        (0x002, ["application clocks setting"]),
        (0x004, ["software power cap"]),
        (0x008, ["hardware slowdown"]),
        (0x010, ["sync boost"]),
        (0x020, ["software thermal slowdown"]),
        (0x040, ["hardware thermal slowdown"]),
        (0x080, ["hardware power brake"]),
        (0x100, ["display clock setting"]),
        (0x800, ["reason 0x800"]),
        (0x048, ["hardware slowdown", "hardware thermal slowdown"]),
        (None, None),
    ],
)
def test_reasons_have_the_same_names_with_every_driver(
    nvml: Any, mask: int | None, reasons: list[str] | None
) -> None:
    for state in (nvml.with_mask(mask), nvml.older(mask), nvml.newer(mask)):
        nvml.answers(state)
        found = read()
        assert found is not None
        assert (found.driver, found.reasons) == (state["nvmlSystemGetDriverVersion"], reasons)


def test_the_memory_of_an_older_driver_includes_what_it_reserves(nvml: Any) -> None:
    nvml.answers(nvml.older(0))
    found = read()
    assert found is not None
    assert found.memory_used_bytes == 2**31


def test_a_newer_driver_counts_the_time_of_each_reason(nvml: Any) -> None:
    state = nvml.newer(sw_power_cap=1_500_000_000)
    del state["nvmlDeviceGetFieldValues"]["76"]
    nvml.answers(state)
    found = read()
    assert found is not None
    assert found.slowed_seconds == {
        "software power cap": 1.5,
        "software thermal slowdown": 7.0,
        "hardware thermal slowdown": 7.0,
        "hardware power brake": 7.0,
    }


def test_a_value_that_the_driver_does_not_report_is_none(nvml: Any) -> None:
    kept = ("nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetMaxClockInfo(1)")
    nvml.answers({name: nvml.h100[name] for name in kept})
    found = read()
    assert found is not None
    assert (found.name, found.sm_mhz_most) == ("NVIDIA H100 80GB HBM3", 1980)
    unknown = ("watts", "memory_bytes", "reasons", "slowed_seconds", "compute_mode", "driver")
    assert [getattr(found, name) for name in unknown] == [None] * len(unknown)


def test_a_driver_that_fails_reports_nothing(nvml: Any) -> None:
    nvml.becomes("fails")
    assert read() is None


def test_a_driver_that_hangs_times_out(nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECONDS_TO_ANSWER", 0.3)
    nvml.becomes("hangs")
    started = time.perf_counter()
    assert read() is None
    assert time.perf_counter() - started < 30


def test_a_missing_binding_raises_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dlsys-bench\[benchmarks\]'"):
        read("cuda")
    assert read("cpu") is None


def test_a_machine_without_a_driver_has_no_gpu() -> None:
    """With the binding itself, which finds no library here or reports a real GPU."""
    pytest.importorskip("pynvml")
    code = "from dlsys_bench.timing.gpu import read; found = read(); print(found and found.name)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("shown", "device", "which"),
    [
        (None, "cuda", "0"),
        (None, "cuda:3", "3"),
        ("2,5", "cuda", "2"),
        ("2, 5", "cuda:1", "5"),
        ("2,5", "gpu:1", "5"),
        (
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
            "cuda",
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
        ),
        ("", "cuda", None),
        ("-1", "cuda", None),
        ("2,-1,5", "cuda:1", None),
        ("2", "cuda:1", None),
        (None, "cpu", None),
        (None, "tpu", None),
        (None, "cuda:one", None),
    ],
)
def test_the_visible_device_is_read(
    shown: str | None, device: str, which: str | None, nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert visible_gpu(device) == which
    found = read(device)
    assert (found is not None) == (which in ("0", nvml.h100["nvmlDeviceGetUUID"]))
    assert nvml.asked == ([which] if which else [])
