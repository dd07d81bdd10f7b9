"""A binding of NVML that answers as the driver does, and programs of points in this process."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.timing import load, points

H100: dict[str, Any] = {
    "nvmlSystemGetDriverVersion": "550.54.15",
    "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetClockInfo(1)": 1755,
    "nvmlDeviceGetMaxClockInfo(1)": 1980,
    "nvmlDeviceGetClockInfo(2)": 2619,
    "nvmlDeviceGetMaxClockInfo(2)": 2619,
    "nvmlDeviceGetTemperature(0)": 41,
    "nvmlDeviceGetPowerUsage": 254830,
    "nvmlDeviceGetPowerManagementLimit": 700000,
    "nvmlDeviceGetMemoryInfo": {"used": 2**31, "total": 81559 * 2**20},
    "nvmlDeviceGetMemoryInfo(33554472)": {"used": 2**30, "total": 81559 * 2**20},
    "nvmlDeviceGetCurrentClocksEventReasons": 0,
}
"""What NVML's functions return, by their name and the arguments after the handle."""

UUID = H100["nvmlDeviceGetUUID"]

MODULE = """
import json, time
from pathlib import Path
from types import SimpleNamespace

FOLDER = Path(__file__).parent
NVML_SUCCESS, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 0, 1, 2, 0
nvmlMemory_v2 = 0x02000028
NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP = 74
NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST = 76
NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN = 269
NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN = 270
NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN = 271

class NVMLError(Exception):
    pass

def answers():
    return json.loads((FOLDER / "answers.json").read_text())

def answer(call):
    if call not in answers()[0]:
        raise NVMLError("Not Supported")
    return answers()[0][call]

def nvmlInit():
    mode = (FOLDER / "mode").read_text()
    if mode == "fails":
        raise NVMLError("Driver Not Loaded")
    if mode == "hangs":
        time.sleep(60)

def nvmlShutdown():
    if len(answers()) > 1:
        (FOLDER / "answers.json").write_text(json.dumps(answers()[1:]))

def handle(which):
    with (FOLDER / "asked").open("a") as asked:
        asked.write(f"{which}\\n")
    if which not in (0, answer("nvmlDeviceGetUUID")):
        raise NVMLError("Not Found")

nvmlDeviceGetHandleByIndex = nvmlDeviceGetHandleByUUID = handle

def nvmlSystemGetDriverVersion():
    return answer("nvmlSystemGetDriverVersion")

def nvmlDeviceGetFieldValues(handle, fields):
    counts = answer("nvmlDeviceGetFieldValues")
    return [
        SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(ullVal=counts[str(field)]))
        if str(field) in counts else SimpleNamespace(nvmlReturn=3)
        for field in fields
    ]

def __getattr__(name):
    if not name.startswith("nvmlDeviceGet"):
        raise AttributeError(name)
    def call(handle, *arguments):
        found = answer(f"{name}({arguments[0]})" if arguments else name)
        return SimpleNamespace(**found) if isinstance(found, dict) else found
    return call
"""


class Nvml:
    """A folder with a module `pynvml`, and what it knows of GPU 0."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.h100 = folder, H100
        (folder / "pynvml.py").write_text(MODULE)
        self.answers(H100)
        self.becomes("works")

    def answers(self, *states: dict[str, Any]) -> None:
        """Set the states that one reading after another finds; the last one stays."""
        (self.folder / "answers.json").write_text(json.dumps(states))

    def becomes(self, mode: str) -> None:
        """Let the driver be one that "works", "fails" or "hangs"."""
        (self.folder / "mode").write_text(mode)

    def older(self, mask: int | None) -> dict[str, Any]:
        """Return the state as a driver before 535 reports it."""
        state = {
            name: value
            for name, value in H100.items()
            if name not in ("nvmlDeviceGetCurrentClocksEventReasons", MEMORY_V2)
        } | {"nvmlSystemGetDriverVersion": "470.82.01"}
        known = {} if mask is None else {"nvmlDeviceGetCurrentClocksThrottleReasons": mask}
        return state | known

    def with_mask(self, mask: int | None) -> dict[str, Any]:
        """Return the state with this mask of reasons; None is a driver that does not report it."""
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        if mask is None:
            return {key: value for key, value in H100.items() if key != name}
        return H100 | {name: mask}

    def newer(self, mask: int | None = 0, **nanoseconds: int) -> dict[str, Any]:
        """Return the state as a driver reports it that counts the time of each reason."""
        fields = {
            "sw_power_cap": 74,
            "sync_boost": 76,
            "sw_thermal_slowdown": 269,
            "hw_thermal_slowdown": 270,
            "hw_power_brake_slowdown": 271,
        }
        counts = {
            str(field): nanoseconds.get(name, 7_000_000_000) for name, field in fields.items()
        }
        new = {"nvmlSystemGetDriverVersion": "595.45.04", "nvmlDeviceGetFieldValues": counts}
        return self.with_mask(mask) | new

    @property
    def asked(self) -> list[str]:
        """The index or UUID of every reading."""
        path = self.folder / "asked"
        return path.read_text().split() if path.exists() else []


MEMORY_V2 = "nvmlDeviceGetMemoryInfo(33554472)"


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    """An H100 with a driver of 2024, for this process and those that it starts."""
    folder = tmp_path / "nvml"
    folder.mkdir()
    made = Nvml(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield made
    sys.modules.pop("pynvml", None)


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for the locks of this test and the processes that it starts."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def run_in_this_process(
    module: str, arguments: Sequence[Any], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Stand in for `points.run_program`, without a process and its start-up time."""
    try:
        found = importlib.import_module(module).measure_fields(*json.loads(json.dumps(arguments)))
    except Exception as error:
        return subprocess.CompletedProcess([], 1, "", points.reason_of(error) + "\n")
    return subprocess.CompletedProcess([], 0, json.dumps(found) + "\n", "")


@pytest.fixture(params=["in-process", pytest.param("processes", marks=pytest.mark.slow)])
def programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure points in this process; in the slow tier also in a process per point."""
    if request.param == "in-process":
        monkeypatch.setattr(points, "run_program", run_in_this_process)


@pytest.fixture(autouse=True)
def brief_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the background load without the time that its clock needs to be precise."""
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.0)
