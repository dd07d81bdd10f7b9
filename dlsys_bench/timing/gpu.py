"""A GPU as its driver sees it, asked of nvidia-smi: clocks, heat, power, memory, and what holds its
clocks down."""

from __future__ import annotations

import csv
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

SECONDS_TO_ANSWER = 10

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
"""What a bit of the driver's mask says; the same in every driver."""

HARMLESS = {"idle", "application clocks setting", "display clock setting"}
"""Reasons that say how the GPU is set or that it has nothing to do, not that it is kept from what
it could."""

ACTIVE = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""The mask's name, and in drivers before 535."""

COUNTERS = {
    "software power cap": "sw_power_cap",
    "sync boost": "sync_boost",
    "software thermal slowdown": "sw_thermal_slowdown",
    "hardware thermal slowdown": "hw_thermal_slowdown",
    "hardware power brake": "hw_power_brake_slowdown",
}
"""Reasons of which newer drivers count the time, in microseconds."""


@dataclass(frozen=True)
class Gpu:
    """A GPU at a moment: clocks in MHz, temperature in Celsius, power in watts, memory in bytes;
    `reasons` hold its clocks down now, each for so many `slowed_seconds` since the driver counts.
    None: the driver does not tell."""

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


def _bytes(mebibytes: str) -> int:
    return int(mebibytes) * 2**20


def _reasons(mask: str) -> list[str]:
    value = int(mask, 16)
    bits = [1 << place for place in range(value.bit_length()) if value >> place & 1]
    return [REASONS.get(bit, f"reason {bit:#x}") for bit in bits]


FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("name", str),
    "uuid": ("uuid", str),
    "driver": ("driver_version", str),
    "compute_mode": ("compute_mode", str),
    "sm_mhz": ("clocks.sm", float),
    "sm_mhz_most": ("clocks.max.sm", float),
    "memory_mhz": ("clocks.mem", float),
    "memory_mhz_most": ("clocks.max.mem", float),
    "celsius": ("temperature.gpu", float),
    "watts": ("power.draw", float),
    "watts_most": ("power.limit", float),
    "memory_used_bytes": ("memory.used", _bytes),
    "memory_bytes": ("memory.total", _bytes),
}
"""Of a GPU's attributes, what nvidia-smi calls each and how to read it."""


def is_gpu(device: str) -> bool:
    """Whether nvidia-smi may know a device: cuda or, as JAX says, gpu; a number may follow, as in
    cuda:1."""
    return device.partition(":")[0] in ("cuda", "gpu")


def chosen(device: str) -> str | None:
    """The index or UUID by which nvidia-smi knows a device of this process; None where the process
    is shown none.

    CUDA counts the GPUs as nvidia-smi does where they are alike, or under
    CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    number = device.partition(":")[2] or "0"
    if not is_gpu(device) or not number.isdecimal():
        return None
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return number
    # As CUDA reads it: what comes after an entry that is none does not count.
    names = list(
        takewhile(lambda name: name not in ("", "-1"), (name.strip() for name in shown.split(",")))
    )
    return names[int(number)] if int(number) < len(names) else None


def read(device: str = "cuda") -> Gpu | None:
    """The GPU now; None where the device is none, or nvidia-smi is not there, fails, or does not
    answer in time."""
    which = chosen(device)
    if which is None:
        return None
    counters = [f"clocks_event_reasons_counters.{name}" for name in COUNTERS.values()]
    # A driver that does not know one of the fields answers none of them.
    for more in ([ACTIVE[0], *counters], [ACTIVE[0]], [ACTIVE[1]]):
        said = _ask(which, [*(field for field, _ in FIELDS.values()), *more])
        if said is None:
            return None
        for row in csv.reader(said.splitlines(), skipinitialspace=True):
            # Whatever the exit code: warnings have codes of their own, and lines of their own
            # beside the answer.
            if len(row) == len(FIELDS) + len(more):
                return _made(row)
    return None


def _ask(which: str, fields: list[str]) -> str | None:
    command = [
        "nvidia-smi",
        "-i",
        which,
        f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_ANSWER
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _made(row: list[str]) -> Gpu:
    values = {
        name: _value(cell, kind)
        for (name, (_, kind)), cell in zip(FIELDS.items(), row, strict=False)
    }
    reasons, *counted = row[len(FIELDS) :]
    seconds = {name: _value(cell, float) for name, cell in zip(COUNTERS, counted, strict=False)}
    known = {name: micro / 1e6 for name, micro in seconds.items() if micro is not None}
    return Gpu(**values, reasons=_value(reasons, _reasons), slowed_seconds=known or None)


def _value(cell: str, kind: Callable[[str], Any]) -> Any:
    """A cell as what it is; None of "[N/A]", "[Not Supported]", and of whatever else is none."""
    if not cell.startswith("[") and cell != "N/A":
        with suppress(ValueError):
            return kind(cell.strip())
    return None
