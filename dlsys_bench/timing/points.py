"""Points: what is measured once, each by a process of its own, and kept as a line of JSON as soon
as it is there.

A module of such points is its own program: `python -m MODULE` is given one as JSON, and answers
with its line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.store.text import append_line

_OPENMP, _TENSORFLOW = (
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
THREADS = (*_OPENMP, *_TENSORFLOW, "PJRT_NPROC", "NPROC")
"""What tells BLAS, torch, TensorFlow and JAX how many threads to take."""

Measurement = dict[str, Any]
"""What was found of a point: its fields, the figures, and the provenance."""


class Point(Protocol):
    """A dataclass whose fields, JSON values all, tell one point from another."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def environment(self) -> dict[str, str]:
        """That of its process."""


P = TypeVar("P", bound=Point)


def environment(threads: int | None = None) -> dict[str, str]:
    """This process's, but for what tells libraries their threads: None, as many as they take by
    themselves."""
    found = {name: value for name, value in os.environ.items() if name not in THREADS}
    if threads is not None:
        found |= dict.fromkeys(THREADS, str(threads))
    if threads == 1:
        found["XLA_FLAGS"] = (
            f"{found.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
        )
    return found


def _key(line: Measurement, kind: type[Point]) -> str:
    return json.dumps([line[name] for name in kind.__dataclass_fields__], sort_keys=True)


def kept(path: Path, kind: type[Point]) -> list[Measurement]:
    """The lines of a file of points of this kind, of each point the last. Errors: UserError."""
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return list({_key(line, kind): line for line in lines}.values())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of measured points: {type(error).__name__}: {error}"
        ) from None


def by_these_versions(lines: Sequence[Measurement]) -> list[Measurement]:
    """Those that were measured by the versions that are here."""
    versions = provenance()["versions"]
    return [line for line in lines if line["provenance"]["versions"] == versions]


def each(
    points: Sequence[P], path: Path, module: str, *told: Any
) -> Iterator[tuple[P, Measurement | str]]:
    """Measure what is not kept yet by the versions that are here, one after another; yields every
    point with its line, or with the reason why there is none. The module is told the point, and
    what else is `told`. Errors: UserError."""
    kinds = set(map(type, points))
    known = {
        _key(line, kind): line for kind in kinds for line in by_these_versions(kept(path, kind))
    }
    for point in points:
        fields = asdict(point)
        key = _key(fields, type(point))
        if key not in known:
            command = [sys.executable, "-m", module, json.dumps([fields, *told])]
            done = subprocess.run(command, env=point.environment, capture_output=True, text=True)
            if done.returncode:
                yield point, _reason(done)
                continue
            known[key] = json.loads(done.stdout.splitlines()[-1])
            append_line(path, json.dumps(known[key]) + "\n")
        yield point, known[key]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the process was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def answer(measure: Callable[..., Measurement]) -> None:
    """What the process of a point does: measure what it was told, and print the line, or end with
    the reason."""
    try:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    except Exception as error:
        # The last line is what is told.
        lines = str(error).strip().splitlines() or [""]
        sys.exit(
            lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}"
        )
