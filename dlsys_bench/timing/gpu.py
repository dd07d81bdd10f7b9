"""The state of an NVIDIA GPU as its driver reports it: clocks, temperature, power, memory, and what
limits the clocks. Read through NVML, the library under nvidia-smi."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from threading import Thread
from typing import Any

from dlsys_bench.extras import optional_module

SECONDS_TO_ANSWER = 10
"""The timeout for an answer of the driver, in seconds."""

REASONS = {
    0x1: "idle",
    0x2: "application clocks setting",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clock setting",
}
"""The bits of the mask of reasons why clocks are low; they are the same in every driver."""

HARMLESS = {"idle", "application clocks setting", "display clock setting"}
"""Reasons that describe the settings or an idle GPU, as opposed to a GPU that is slowed down."""

COUNTERS = {
    "software power cap": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP",
    "sync boost": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST",
    "software thermal slowdown": "NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
    "hardware thermal slowdown": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN",
    "hardware power brake": "NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN",
}
"""The reasons for which newer drivers count the time, in nanoseconds, and the fields of these
counters."""

COMPUTE_MODES = ("Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")
"""The names that nvidia-smi gives to NVML's compute modes, by number."""


@dataclass(frozen=True)
class Gpu:
    """The state of a GPU at one moment.

    Clocks are in MHz, the temperature in degrees Celsius, power in watts, memory in bytes.
    `reasons` names what limits the clocks now; `slowed_seconds` says for how long each reason has
    limited them since the driver began to count. A field is None if the driver does not report it.
    """

    name: str | None
    uuid: str | None
    driver: str | None
    compute_mode: str | None
    sm_mhz: float | None
    sm_mhz_most: float | None
    memory_mhz: float | None
    memory_mhz_most: float | None
    celsius: float | None
    watts: float | None
    watts_most: float | None
    memory_used_bytes: int | None
    memory_bytes: int | None
    reasons: list[str] | None
    slowed_seconds: dict[str, float] | None


def is_gpu(device: str) -> bool:
    """Return whether a device may be an NVIDIA GPU: "cuda" or, as JAX spells it, "gpu"; a number
    may follow, as in "cuda:1"."""
    return device.partition(":")[0] in ("cuda", "gpu")


def visible_gpu(device: str) -> str | None:
    """Return the index or UUID by which the driver knows a device of this process, or None if the
    process sees no such GPU.

    CUDA numbers the GPUs as the driver does if they are all of one model, or under
    CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    number = device.partition(":")[2] or "0"
    if not is_gpu(device) or not number.isdecimal():
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return number
    # As in CUDA, an entry that names no GPU hides all entries after it.
    entries = (name.strip() for name in visible.split(","))
    names = list(takewhile(lambda name: name not in ("", "-1"), entries))
    return names[int(number)] if int(number) < len(names) else None


def read(device: str = "cuda") -> Gpu | None:
    """Return the state of a device now, or None if it is no GPU, or the driver is missing, fails or
    does not answer in time. Raises MissingExtraError without the binding of NVML."""
    which = visible_gpu(device)
    if which is None:
        return None
    nvml = optional_module("benchmarks", "pynvml")
    found: list[Gpu] = []

    def ask() -> None:
        try:
            with _initialized(nvml):
                found.append(_state(nvml, which))
        except (nvml.NVMLError, OSError):
            return

    # A call to a driver that hangs cannot be ended, so it is left behind in its thread.
    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return found[0] if found else None


@contextmanager
def _initialized(nvml: Any) -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _state(nvml: Any, which: str) -> Gpu:
    if which.isdecimal():
        handle = nvml.nvmlDeviceGetHandleByIndex(int(which))
    else:
        handle = nvml.nvmlDeviceGetHandleByUUID(which)

    def ask(function: str, *arguments: Any) -> Any:
        return _known(nvml, lambda: getattr(nvml, function)(handle, *arguments))

    mode, draw = ask("nvmlDeviceGetComputeMode"), ask("nvmlDeviceGetPowerUsage")
    limit = ask("nvmlDeviceGetPowerManagementLimit")
    # Version 2 leaves out what the driver reserves for itself, as nvidia-smi does.
    memory = ask("nvmlDeviceGetMemoryInfo", nvml.nvmlMemory_v2) or ask("nvmlDeviceGetMemoryInfo")
    mask = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if mask is None:  # The name of the function in drivers before 535.
        mask = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return Gpu(
        name=ask("nvmlDeviceGetName"),
        uuid=ask("nvmlDeviceGetUUID"),
        driver=_known(nvml, nvml.nvmlSystemGetDriverVersion),
        compute_mode=COMPUTE_MODES[mode] if mode in range(len(COMPUTE_MODES)) else None,
        sm_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        sm_mhz_most=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        memory_mhz=ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        memory_mhz_most=ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
        celsius=ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        watts=draw and draw / 1000,
        watts_most=limit and limit / 1000,
        memory_used_bytes=memory and memory.used,
        memory_bytes=memory and memory.total,
        reasons=None if mask is None else _reasons(mask),
        slowed_seconds=_slowed_seconds(nvml, handle),
    )


def _known(nvml: Any, call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None if this driver or this GPU does not support it."""
    try:
        return call()
    except nvml.NVMLError:
        return None


def _reasons(mask: int) -> list[str]:
    bits = [1 << place for place in range(mask.bit_length()) if mask >> place & 1]
    return [REASONS.get(bit, f"reason {bit:#x}") for bit in bits]


def _slowed_seconds(nvml: Any, handle: Any) -> dict[str, float] | None:
    fields = {reason: getattr(nvml, name, None) for reason, name in COUNTERS.items()}
    asked = {reason: field for reason, field in fields.items() if field is not None}
    counts = _known(nvml, lambda: nvml.nvmlDeviceGetFieldValues(handle, list(asked.values())))
    found = {
        reason: count.value.ullVal / 1e9
        for reason, count in zip(asked, counts or (), strict=False)
        if count.nvmlReturn == nvml.NVML_SUCCESS
    }
    return found or None
