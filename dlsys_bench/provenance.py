"""Where a figure comes from: versions, machine, time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "dlsys-bench",
    "numpy",
    "numba",
    "torch",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
)


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def _commit() -> str | None:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=here.parent,
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    here = Path(__file__)
    # Installed inside somebody's repository, the commit would be theirs.
    return (
        git("describe", "--always", "--dirty", "--abbrev=12")
        if git("ls-files", here.name)
        else None
    )


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def provenance() -> dict[str, Any]:
    """Versions, machine, cores, threads and kernels asked for, commit where there is one, and the
    time in UTC."""
    told = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")
    threads = {name: os.environ[name] for name in told if name in os.environ}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(_versions()),
        "commit": _commit(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": cores(),
            "threads": threads,
        },
    }
