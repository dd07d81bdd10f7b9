"""Results on disk: one JSON line a run, written as it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from dlsys_bench.errors import StoreError
from dlsys_bench.result import Result


def line_of(result: Result) -> str:
    """The JSON line of a result. Figures keep seven significant digits, all that single precision holds."""

    def shortened(value: object) -> object:
        if isinstance(value, float):
            return float(f"{value:.7g}")
        if isinstance(value, dict):
            return {key: shortened(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shortened(item) for item in value]
        return value

    # The recipe is what the run obeyed, to the last digit: only what was measured is shortened.
    values = result.to_dict()
    measured = {key: shortened(values[key]) for key in ("history", "seconds", "figures")}
    return json.dumps(values | measured, separators=(",", ":")) + "\n"


def opened(path: Path) -> int:
    """A descriptor that appends to the file, made if it is not there. Errors: StoreError.

    Called before a long training too, whose result would otherwise find out that it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error


def append(path: Path, result: Result) -> None:
    """Add a run to a file, durably and whole: a write that fails takes back what it had begun. Errors: StoreError."""
    data = line_of(result).encode()
    descriptor = opened(path)
    try:
        end = os.fstat(descriptor).st_size
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            # A line that a crash cut off must not swallow this one.
            data = b"\n" + data
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(28, "no space left on device")
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):  # A device cannot be shortened; what failed is said below.
                os.ftruncate(descriptor, end)
            raise StoreError(
                f"cannot write results to {path}: {error.strerror}; the runs written before are kept"
            ) from error
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Result]:
    """Every run of a file. A damaged line is named in a warning and left out. Errors: StoreError if unreadable."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise StoreError(f"cannot read results from {path}: {error.strerror}") from error
    results = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            results.append(Result.from_dict(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(f"{path}, line {number} is not a run and was left out: {error!r}", stacklevel=2)
    return results


def file_name(*parts: object) -> str:
    """Parts as one name that every file system takes."""
    return re.sub(r"[^\w+-]+", ".", ".".join(map(str, parts)))


REFERENCE = Path("reports/reference")
"""Where reference runs are written, and looked for first: in the folder that a person works in."""


def reference_path(study: str, dataset: str, tier: str, folder: Path = REFERENCE) -> Path:
    """The file of a study's reference runs."""
    return folder / f"{file_name(study, dataset, tier)}.jsonl"


def find_reference(study: str, dataset: str, tier: str) -> Path:
    """The file to read: the person's own, else the package's, which in a checkout lies beside it."""
    inside = Path(str(files("dlsys_bench"))) / "reference"
    beside = Path(__file__).parent.parent / REFERENCE
    paths = [reference_path(study, dataset, tier, folder) for folder in (REFERENCE, inside, beside)]
    return next((path for path in paths if path.exists()), paths[0])


def reference_runs(path: Path, arm: str, protocol: str) -> list[Result]:
    """The runs of an arm in a file by this protocol, none if there are none: runs of another make no band."""
    return [run for run in (read(path) if path.exists() else []) if (run.arm, run.protocol) == (arm, protocol)]


def done(results: Iterable[Result]) -> set[tuple[str | int, ...]]:
    """What need not be run again: (study, arm, dataset, tier, engine, device, seed, protocol) of each run."""
    return {(r.study, r.arm, r.dataset, r.tier, r.engine, r.device, r.seed, r.protocol) for r in results}
