"""The provenance of a result: versions, machine, time."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

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
    # An installed package may lie inside a repository of the user, whose commit says nothing.
    if not git("ls-files", here.name):
        return None
    return git("describe", "--always", "--dirty", "--abbrev=12")


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none.
    return len(affinity()) if affinity is not None else os.cpu_count() or 1


def provenance() -> dict[str, Any]:
    """Return the provenance of a result made now, as JSON values.

    It holds the time in UTC, the versions of Python and of the packages, the commit of this package
    if it is a checkout, and the machine: its processor, cores, and the variables that set the
    threads and kernels of BLAS and OpenMP.
    """
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")
    threads = {name: os.environ[name] for name in variables if name in os.environ}
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
