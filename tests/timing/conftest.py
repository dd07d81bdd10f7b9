"""An nvidia-smi for tests: a script that answers as the driver's own does."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

H100 = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "driver_version": "550.54.15",
    "compute_mode": "Default",
    "clocks.sm": "1755",
    "clocks.max.sm": "1980",
    "clocks.mem": "2619",
    "clocks.max.mem": "2619",
    "temperature.gpu": "41",
    "power.draw": "254.83",
    "power.limit": "700.00",
    "memory.used": "1024",
    "memory.total": "81559",
    "clocks_event_reasons.active": "0x0000000000000000",
}

SCRIPT = """#!{python} -IS
import json, sys
from pathlib import Path
arguments, folder = sys.argv[1:], Path({folder!r})
with (folder / "asked").open("a") as asked:
    asked.write(json.dumps(arguments) + "\\n")
answers = json.loads((folder / "answers.json").read_text())
known = answers[0]
fields = next(one for one in arguments if one.startswith("--query-gpu=")).partition("=")[2].split(",")
if arguments[arguments.index("-i") + 1] not in ("0", known["uuid"]):
    print("No devices were found")
    sys.exit(6)
for field in fields:
    if field not in known:
        print(f'Field "{{field}}" is not a valid field to query.\\n')
        sys.exit(2)
if len(answers) > 1:
    (folder / "answers.json").write_text(json.dumps(answers[1:]))
print(", ".join(known[field] for field in fields))
"""


class Smi:
    """A folder for PATH, with the script in it and what it knows of GPU 0."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.h100 = folder, H100
        self.answers(H100)
        self.becomes(SCRIPT.format(python=sys.executable, folder=str(folder)))

    def answers(self, *told: dict[str, str]) -> None:
        """What is told, one answered call after another; the last stays."""
        (self.folder / "answers.json").write_text(json.dumps(told))

    def becomes(self, script: str) -> None:
        """Another script."""
        path = self.folder / "nvidia-smi"
        path.write_text(script)
        path.chmod(0o755)

    def older(self, mask: str) -> dict[str, str]:
        """As a driver before 535 knows it."""
        told = {
            name: value for name, value in H100.items() if name != "clocks_event_reasons.active"
        }
        return told | {"driver_version": "470.82.01", "clocks_throttle_reasons.active": mask}

    def newer(self, mask: str = "0x0000000000000000", **microseconds: int) -> dict[str, str]:
        """As a driver knows it that counts the time of each reason."""
        names = (
            "sw_power_cap",
            "sync_boost",
            "sw_thermal_slowdown",
            "hw_thermal_slowdown",
            "hw_power_brake_slowdown",
        )
        counted = {
            f"clocks_event_reasons_counters.{name}": str(microseconds.get(name, 7_000_000))
            for name in names
        }
        return H100 | {"driver_version": "595.45.04", "clocks_event_reasons.active": mask} | counted

    @property
    def asked(self) -> list[Any]:
        """The arguments of every call."""
        path = self.folder / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """An H100 by a driver of 2024, in front of PATH."""
    folder = tmp_path / "smi"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return Smi(folder)


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files for this test's locks alone, of this process and those it
    starts."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
