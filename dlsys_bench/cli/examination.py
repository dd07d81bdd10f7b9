"""What `doctor` examines: each function looks at one part of this machine, and imports no
framework into this process."""

from __future__ import annotations

import errno
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
from packaging.requirements import InvalidRequirement, Requirement
from threadpoolctl import threadpool_info

from dlsys_bench.data import datasets, verify
from dlsys_bench.engines.registry import engines, unavailable
from dlsys_bench.errors import DataError, UserError, count_of
from dlsys_bench.extras import EXTRAS, missing
from dlsys_bench.provenance import cores
from dlsys_bench.text import describe, one_line
from dlsys_bench.timing.points import THREADS

PACKAGE = "dlsys-bench"
FREE = 2**30
"""The bytes below which a disk is nearly full: a cache of datasets and compiled kernels, and the
runs of a calibration, need less."""

OTHER = {"cache": "XDG_CACHE_HOME", "temporary files": "TMPDIR"}
"""The environment variables that choose another folder."""

SECONDS = 60
"""The time after which a library that is asked about its GPU counts as broken."""

CUDA_OF = {
    "torch": "import torch; print(torch.version.cuda or '', torch.cuda.is_available())",
    "jax": "import jax; print('gpu' in {d.platform for d in jax.devices()})",
}
"""The code that prints whether a library can use a GPU, by module; True at the end if it can."""

CUDA_INSTALL = {
    "torch": "pip install --force-reinstall torch "
    "--index-url https://download.pytorch.org/whl/cu128",
    "jax": "pip install 'jax[cuda12]'",
}

HIDING = "CUDA_VISIBLE_DEVICES"
"""The variable that hides GPUs from every library."""

NVIDIA, DISPLAY = "0x10de", "0x03"
"""The vendor of a PCI device, and the beginning of the class of GPUs."""

PCI_DEVICES = Path("/sys/bus/pci/devices")

BLAS_THREADS = (
    *THREADS,
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""The environment variables that set the number of threads of a BLAS or OpenMP library."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk, or a share of one, without space."""


class Condition(StrEnum):
    """The state of a part of the machine. MISSING: an optional part is not installed."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "WRONG"


class Part(NamedTuple):
    """What was found about one part, and what corrects it."""

    part: str
    state: Condition
    found: str
    remedy: str = ""


def gpus() -> Iterator[Part]:
    """The GPUs that the driver lists, and the libraries that cannot use them."""
    program = shutil.which("nvidia-smi")
    listed = _output([program, "-L"]) if program else ""
    names = [line.strip() for line in listed.splitlines() if line.startswith("GPU ")]
    if not names:
        if _gpus_on_the_bus():
            found = "an NVIDIA GPU is installed, and its driver lists none"
            yield Part(
                "GPU", Condition.WRONG, found, "install the driver, until nvidia-smi -L works"
            )
        else:
            yield Part("GPU", Condition.MISSING, "the driver lists no NVIDIA GPU")
        return
    yield Part("GPU", Condition.OK, "; ".join(names))
    for module, code in CUDA_OF.items():
        if importlib.util.find_spec(module) is None:
            continue
        answer = _output([sys.executable, "-c", code]).split()
        if answer[-1:] == ["True"]:
            yield Part(module, Condition.OK, "uses the GPU")
            continue
        found, remedy = f"{module} {_version(module)}", CUDA_INSTALL[module]
        if not answer:
            found = f"{found} cannot be imported"
        elif HIDING in os.environ:
            found = f"{found} uses no GPU: {HIDING}={os.environ[HIDING]}"
            remedy = f"unset {HIDING}"
        else:
            built = "is built without CUDA" if len(answer) < 2 else f"has CUDA {answer[0]}"
            found = f"{found} {built} and does not use the GPU"
        yield Part(module, Condition.WRONG, one_line(found), remedy)


def threads() -> Iterator[Part]:
    """The threads of each BLAS and OpenMP library that numpy loads."""
    np.ones((2, 2)) @ np.ones((2, 2))  # loads the BLAS
    found = [one for one in threadpool_info() if one["user_api"] in ("blas", "openmp")]
    names = [f"{one['internal_api']} {one.get('version') or ''}".strip() for one in found]
    if not found:
        yield Part("BLAS", Condition.WRONG, "numpy has no BLAS that is known", "pip install numpy")
    for name, one in zip(names, found, strict=True):
        counted = f"{name}: {count_of(one['num_threads'], 'thread')} on {count_of(cores(), 'core')}"
        if one["num_threads"] > 1 or cores() == 1:
            yield Part("BLAS", Condition.OK, counted)
        else:
            given = [name for name in BLAS_THREADS if name in os.environ]
            reinstall = "pip install --force-reinstall numpy"
            remedy = f"unset {' '.join(given)}" if given else reinstall
            yield Part("BLAS", Condition.WRONG, counted, remedy)


def folders() -> Iterator[Part]:
    """The folders that commands write to: may they, and how much space is left."""
    places = {
        "cache": platformdirs.user_cache_path("dlsys_bench"),
        "working directory": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
    }
    for name, path in places.items():
        existing = next(up for up in (path, *path.parents) if os.path.lexists(up))
        error = _cannot_write(existing)
        if error is not None and error.errno not in FULL:
            variable = f", or export {OTHER[name]}=FOLDER" if name in OTHER else ""
            found = f"{path} is not writable: {error.strerror or error}"
            remedy = f"chmod u+w {shlex.quote(str(existing))}{variable}"
            yield Part(name, Condition.WRONG, found, remedy)
            continue
        free = 0 if error is not None else shutil.disk_usage(existing).free
        found = f"{path}, {free / 2**30:.1f} GiB free"
        if free < FREE:
            yield Part(name, Condition.WRONG, f"{found}: the disk is full", "delete files there")
        else:
            yield Part(name, Condition.OK, found)


def data() -> Iterator[Part]:
    """The files of each dataset, by their SHA-256."""
    for name in datasets():
        try:
            reports = verify(name)
        except (DataError, UserError, OSError) as error:
            yield Part(
                f"data {name}", Condition.WRONG, one_line(error), f"see `data verify {name}`"
            )
            continue
        wrong = [report for report in reports if report.state == "wrong"]
        if wrong:
            found = "; ".join(f"{one.path} is {one.description or 'damaged'}" for one in wrong)
            paths = shlex.join(str(one.path) for one in wrong)
            remedy = f"rm {paths} && dlsys-bench data fetch {name}"
            yield Part(f"data {name}", Condition.WRONG, found, remedy)
        elif any(report.state == "missing" for report in reports):
            remedy = f"dlsys-bench data fetch {name}"
            yield Part(f"data {name}", Condition.MISSING, "not downloaded", remedy)
        else:
            yield Part(f"data {name}", Condition.OK, "complete")


def packages() -> Iterator[Part]:
    """The installed packages whose version the suite does not support."""
    for text in metadata.requires(PACKAGE) or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        version = _version(requirement.name)
        if not version or requirement.specifier.contains(version, prereleases=True):
            continue
        extra = requirement.marker and _extra_of(str(requirement.marker))
        remedy = f"pip install --upgrade '{PACKAGE}[{extra}]'" if extra else f"pip install {text}"
        found = f"{requirement.name} {version} is installed; it needs {requirement.specifier}"
        yield Part("package", Condition.WRONG, found, remedy)


def installed_engines() -> Iterator[Part]:
    """The engines that can be used, and the commands that install the others."""
    for name in engines():
        reason = unavailable(name)
        remedy = reason.partition(": ")[2] if reason else ""
        yield Part(f"engine {name}", Condition.MISSING if reason else Condition.OK, "", remedy)


def extras() -> Iterator[Part]:
    """The optional parts of the package."""
    for extra in EXTRAS:
        error = missing(extra)
        remedy = f"pip install '{PACKAGE}[{extra}]'" if error else ""
        yield Part(f"extra {extra}", Condition.MISSING if error else Condition.OK, "", remedy)


EXAMINATIONS: tuple[Callable[[], Iterator[Part]], ...] = (
    packages,
    gpus,
    threads,
    folders,
    data,
    installed_engines,
    extras,
)
"""Every examination, in the order of the table."""


def examine(on_end: Callable[[str], None] = lambda part: None) -> list[Part]:
    """Return the entries of every examination. One that fails is an entry too.

    `on_end` gets the name of each examination as it ends.
    """
    found: list[Part] = []
    for examination in EXAMINATIONS:
        name = examination.__name__.replace("_", " ")
        try:
            found += examination()
        except Exception as error:
            found.append(Part(name, Condition.WRONG, one_line(describe(error))))
        on_end(name)
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _extra_of(marker: str) -> str:
    """Return the extra that a marker names, "" for none."""
    return marker.partition('extra == "')[2].partition('"')[0]


def _output(command: list[str]) -> str:
    """Return what a command prints on stdout; "" if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _cannot_write(folder: Path) -> OSError | None:
    """Return the error that prevents a file from being written in a folder; None if one can be."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return error
    return None


def _gpus_on_the_bus() -> bool:
    """Return True if Linux lists an NVIDIA GPU among the PCI devices, with a driver or without."""
    try:
        devices = list(PCI_DEVICES.iterdir())
        return any(
            (device / "vendor").read_text().strip() == NVIDIA
            and (device / "class").read_text().startswith(DISPLAY)
            for device in devices
        )
    except OSError:
        return False
