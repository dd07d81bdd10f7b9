"""What the figures of a user's training depend on, so that stored runs are not mistaken for runs of
a training that has changed since.

Known before a training: the user's code that it reaches (`runs.source`), the versions of the
packages that this code imports and of all that those require, the driver of the GPU, and the
environment variables that the code or a framework reads. Known after it: the data files that it
opened. Not covered: data that is read without Python's `open`, such as by HDF5, or over a network;
code that is imported under a name that is computed; and the settings of the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dlsys_bench.attributes import module_of, split_target
from dlsys_bench.errors import count_of
from dlsys_bench.runs.module_files import is_installed
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.source import source_of

VARIABLES = frozenset(
    {
        "CUBLAS_WORKSPACE_CONFIG",
        "CUDA_VISIBLE_DEVICES",
        "JAX_DEFAULT_MATMUL_PRECISION",
        "JAX_DISABLE_JIT",
        "JAX_ENABLE_X64",
        "JAX_PLATFORMS",
        "KERAS_BACKEND",
        "NVIDIA_TF32_OVERRIDE",
        "PYTHONHASHSEED",
        "TF_DETERMINISTIC_OPS",
        "TF_ENABLE_ONEDNN_OPTS",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "XLA_FLAGS",
    }
)
"""Variables that frameworks read, and that change what a training computes."""

THIS_PACKAGE = "dlsys-bench"

DRIVER = Path("/proc/driver/nvidia/version")

TRAINING = "training"
"""The name of the dependencies in the provenance of a run."""

PARTS = ("code", "packages", "environment", "files")
"""The parts of the dependencies, in the order in which changes are named."""


def dependencies_of(target: str) -> dict[str, dict[str, str]]:
    """Return what the training "package.module:train" depends on now, by part and name.

    "code" and "files" map names to digests, "packages" to versions and "environment" to values.
    """
    source = source_of(module_of(target), split_target(target)[1].partition(".")[0])
    names, variables = source.words | VARIABLES, dict(os.environ)
    return {
        "code": dict(sorted(source.digests.items())),
        "packages": _versions(source.imported),
        "environment": {name: variables[name] for name in sorted(names & set(variables))},
    }


def protocol_of(target: str) -> str:
    """Return the digest of what the training "package.module:train" depends on, before it runs."""
    text = json.dumps(dependencies_of(target), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _versions(imported: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that provide the modules, of what those require, of
    Python and of the driver."""
    left = [name for module in imported for name in _providers().get(module, ())]
    found: dict[str, str] = {}
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = package.version
        if name != THIS_PACKAGE:  # What it requires runs the training, but is no part of it.
            left += _required(tuple(package.requires or ()))
    versions = {"python": platform.python_version()} | dict(sorted(found.items()))
    if DRIVER.exists():
        versions["nvidia driver"] = DRIVER.read_text(errors="replace").splitlines()[0].strip()
    return versions


@cache
def _providers() -> Mapping[str, list[str]]:
    return packages_distributions()


def _required(requirements: tuple[str, ...]) -> list[str]:
    """Return the packages that are required here without any extra."""
    parsed = map(Requirement, requirements)
    return [
        each.name for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})
    ]


class _OpenedFiles:
    """Records the files that are opened for reading while it is active.

    Python cannot remove an audit hook, so there is one for the process, added when first needed.
    """

    def __init__(self) -> None:
        self.active: list[set[str]] = []
        self.lock = threading.Lock()
        self.hooked = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record the path of an `open` that reads."""
        if event != "open" or not self.active:
            return
        path, mode, flags = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if isinstance(path, str | bytes) and not writes and not flags & (os.O_WRONLY | os.O_RDWR):
            for opened in self.active:
                opened.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100

    @contextmanager
    def recorded(self) -> Iterator[set[str]]:
        """Record the files that are opened in the block."""
        opened: set[str] = set()
        with self.lock:
            if not self.hooked:
                sys.addaudithook(self.hook)
                self.hooked = True
            self.active = [*self.active, opened]
        try:
            yield opened
        finally:
            with self.lock:
                self.active = [each for each in self.active if each is not opened]


OPENED = _OpenedFiles()


@contextmanager
def data_files() -> Iterator[dict[str, str]]:
    """Collect the data files that the block reads, with the digests of their contents, into the
    yielded mapping when it ends. Paths below the working folder are relative to it."""
    files: dict[str, str] = {}
    with OPENED.recorded() as opened:
        yield files
    here = Path.cwd()
    for path in map(Path, sorted(opened)):
        if _is_data(path):
            name = path.relative_to(here) if path.is_relative_to(here) else path
            files[name.as_posix()] = _digest_of(path)


def _is_data(path: Path) -> bool:
    """Return True for a file that a training may read data from, rather than code, what is
    installed, temporary files and what the system provides."""
    system = (Path("/proc"), Path("/sys"), Path("/dev"), Path("/etc"), Path("/usr"))
    if path.suffix in (".py", ".pyc", ".so", ".pth") or not path.is_file():
        return False
    temporary = Path(tempfile.gettempdir())
    excluded = any(path.is_relative_to(folder) for folder in (*system, temporary))
    inside = Path.cwd()
    return not is_installed(path) and (path.is_relative_to(inside) or not excluded)


def _digest_of(path: Path) -> str:
    """Return the digest of a file, or nothing for a file that cannot be read."""
    try:
        # The names are read from a file of runs, and a device may have no end.
        if not path.is_file():
            return ""
        status = path.stat()
        return _digest(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@cache
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def changes(
    before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Describe what differs between the dependencies of two times, one line for each name.

    The files of `before` are read now. A part that `before` does not have is not compared.
    """
    found = []
    for part in PARTS:
        if part not in before:
            continue
        after = now.get(part, {})
        if part == "files":
            after = {name: _digest_of(Path(name)) for name in before[part]}
        for name in sorted({*before[part], *after}):
            old, new = before[part].get(name), after.get(name)
            if old != new:
                found.append(_change(part, name, old, new))
    return found


def changes_since(run: Result) -> list[str]:
    """Describe what the training of a run depends on that has changed since, if the run says so."""
    before = (run.provenance or {}).get(TRAINING, {})
    return changes(before, dependencies_of(run.key.study)) if before else []


def _change(part: str, name: str, old: str | None, new: str | None) -> str:
    if part in ("packages", "environment"):
        return f"{name} {old or 'unset'} -> {new or 'unset'}"
    if part == "files" and not new:
        return f"{name} is missing"
    what = "is new" if old is None else "is no longer used" if new is None else "has changed"
    return f"{name} {what}"


def summary(found: list[str], most: int = 6) -> str:
    """Join descriptions of changes into one line, the first of them in full."""
    left = len(found) - most
    return ", ".join(found[:most]) + (f", and {count_of(left, 'more')}" if left > 0 else "")
