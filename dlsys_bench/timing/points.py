"""Measurements, one per process, stored as lines of JSON as soon as each is made.

A module that measures points is a program: `python -m MODULE` receives a point as JSON and prints
its measurement. A process per point gives every point its own peak memory and thread settings, and
no warm caches of the one before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.fields import Field, ListOf, Name, Optional, Real, Struct, Whole
from dlsys_bench.runs.store.text import append_line
from dlsys_bench.strict_json import loads

_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_XLA = ("PJRT_NPROC", "NPROC")
THREADS = (*_BLAS, *_TENSORFLOW, *_XLA)
"""The environment variables that set the number of threads of BLAS, torch, TensorFlow and JAX."""

CONDITIONS: dict[str, Field] = {
    "others_share": Optional(Real(0, 1)),
    "provenance": Struct({"versions": Struct({}, others=Name()), "commit": Optional(Name())}),
}
"""The fields of every measurement that state how it was made."""

GPU: dict[str, Field] = {
    "gpu": Optional(
        Struct({"slowed_by": Optional(ListOf(Name()))}, optional=frozenset({"slowed_by"}))
    ),
    "peak_device_memory_bytes": Optional(Whole()),
}
"""The fields of a measurement on a GPU."""

Measurement = dict[str, Any]
"""What was measured of a point: its fields, the measured values and the provenance."""


class Measurable(Protocol):
    """A point, identified by the fields of its JSON form. `MEASURED` is the table of the fields of
    its measurement."""

    FIELDS: ClassVar[tuple[str, ...]]
    MEASURED: ClassVar[Struct]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the process that measures the point."""


P = TypeVar("P", bound=Measurable)


def environment(threads: int | None = None) -> dict[str, str]:
    """Return the environment of this process with a number of threads; None sets no number."""
    found = {name: value for name, value in os.environ.items() if name not in THREADS}
    if threads is not None:
        found |= dict.fromkeys(THREADS, str(threads))
    if threads == 1:
        # XLA runs some operations on a pool of threads whose size the variables do not limit.
        flags = f"{found.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
        found["XLA_FLAGS"] = flags.strip()
    return found


def _key(measurement: Measurement, kind: type[Measurable]) -> str:
    values = [measurement.get(name, "") for name in kind.FIELDS]
    return json.dumps(values, sort_keys=True)


def read_measurements(path: Path, kind: type[Measurable]) -> list[Measurement]:
    """Return the last measurement of each point of a kind in a file, none if there is no file.

    Raises UserError if the file has other contents.
    """
    if not path.exists():
        return []
    place, found = "", {}
    try:
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            place = f"line {number}: "
            measurement = loads(text)
            kind.MEASURED.read(measurement, "")
            found[_key(measurement, kind)] = measurement
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a file of measured points: it is not text") from None
    except ValueError as error:
        raise UserError(f"{path} is not a file of measured points: {place}{error}") from None
    return list(found.values())


def of_installed_versions(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements that were made with the package versions installed here."""
    versions = provenance()["versions"]
    return [found for found in measurements if found["provenance"]["versions"] == versions]


def measure_missing(
    points: Sequence[P], path: Path, module: str, *arguments: Any
) -> Iterator[tuple[P, Measurement | str]]:
    """Measure the points that are not stored, and yield every point with its measurement.

    A point whose process failed is yielded with the reason in place of a measurement. Measurements
    with other package versions do not count as stored. `module` is the program that measures; it
    receives the point and the `arguments`. Raises UserError if the file has other contents.
    """
    known: dict[str, Measurement] = {}
    for kind in set(map(type, points)):
        stored = of_installed_versions(read_measurements(path, kind))
        known |= {_key(found, kind): found for found in stored}
    for point in points:
        fields = point.to_dict()
        key = _key(fields, type(point))
        if key not in known:
            done = run_program(module, [fields, *arguments], point.environment)
            if done.returncode:
                yield point, _reason(done)
                continue
            known[key] = json.loads(done.stdout.splitlines()[-1])
            append_line(path, json.dumps(known[key]) + "\n")
        yield point, known[key]


def run_program(
    module: str, arguments: Sequence[Any], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the program of a module in a process with this environment, and wait for its end."""
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def main(measure: Callable[..., Measurement]) -> None:
    """Run the program of a module: measure the point in the argument and print the measurement.

    If that fails, the program exits with the reason in one line.
    """
    try:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    except Exception as error:
        sys.exit(reason_of(error))


def reason_of(error: Exception) -> str:
    """Return the first line of an error, with its type unless it is a UserError."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}"
