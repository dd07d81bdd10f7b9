"""The provenance of a result: versions, machine, time."""

from __future__ import annotations

import getpass
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
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
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
    here = Path(__file__)
    # An installed package may lie inside a repository of the user, whose commit says nothing.
    return commit_of(here.parent) if _git(here.parent, "ls-files", here.name) else None


@cache
def commit_of(folder: Path) -> str | None:
    """Return the commit of the repository that a folder is in, with "-dirty" if files that it
    tracks have changed; None outside of a repository, or without git."""
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=12")


def git_user(folder: Path) -> str:
    """Return the name and the address that git knows for the user, else the name of the login."""
    name, address = (_git(folder, "config", f"user.{field}") for field in ("name", "email"))
    return " ".join(filter(None, (name, f"<{address}>" if address else ""))) or getpass.getuser()


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what a command of git prints; None if it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
    threads = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
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
