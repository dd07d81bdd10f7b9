"""Runs as text: one JSON line each. What is tracked is kept so, for a person to read and git to
compare."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.result import Result

BINARY = getattr(os, "O_BINARY", 0)
"""The flag that keeps Windows from translating the ends of lines."""

DIGITS = 7
"""Significant digits of a figure in a file: all that single precision holds."""


def line_of(result: Result) -> str:
    """The JSON line of a result."""

    def shortened(value: object) -> object:
        # Figures of somebody's engine may be scalars of a framework.
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float):
            return float(f"{value:.{DIGITS}g}")
        if isinstance(value, dict):
            return {key: shortened(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shortened(item) for item in value]
        return value

    # The recipe is what the run obeyed, to the last digit: only what was measured is shortened.
    values = result.to_dict()
    # What a training of someone else's returns may need every digit: its figures have no protocol
    # that says otherwise.
    keys = (
        ("history", "seconds")
        if result.key.engine == "callable"
        else ("history", "seconds", "figures")
    )
    measured = {key: shortened(values[key]) for key in keys}
    try:
        return json.dumps(values | measured, separators=(",", ":")) + "\n"
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"a run of {result.key.study} holds what is no plain value: {error}"
        ) from error


def opened(path: Path) -> int:
    """A descriptor that appends to the file, made if it is not there. Errors: StoreError.

    Called before a long training too, whose result would otherwise find out that it cannot be
    written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error


def append_text(path: Path, result: Result) -> None:
    """Add a run to a file, as `append_line` adds a line. Errors: StoreError."""
    append_line(path, line_of(result))


def append_line(path: Path, line: str) -> None:
    """Add a line, with its end, durably and whole: a write that fails takes back what it had begun.

    Errors: StoreError.
    """
    data = line.encode()
    descriptor = opened(path)
    try:
        end = os.fstat(descriptor).st_size
        if end:
            os.lseek(descriptor, end - 1, os.SEEK_SET)
            if os.read(descriptor, 1) != b"\n":
                # A line that a crash cut off must not swallow this one.
                data = b"\n" + data
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(28, "no space left on device")
            os.fsync(descriptor)
        except OSError as error:
            # A device cannot be shortened. The first error is the one to report.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise StoreError(
                f"cannot write results to {path}: {error.strerror}; the runs written before are kept"
            ) from error
    finally:
        os.close(descriptor)


def results_of(lines: Iterable[str], where: object) -> Iterator[Result]:
    """Every run of JSON lines. A damaged line is named in a warning and left out."""
    return (result for _, result in lines_and_results(lines, where))


def lines_and_results(lines: Iterable[str], where: object) -> Iterator[tuple[str, Result]]:
    """Every line that is a run, with the run. A damaged line is named in a warning and left out."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield line, Result.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(
                f"{where}, line {number} is not a run and was left out: {error!r}", stacklevel=2
            )


def read_text(path: Path) -> list[Result]:
    """Every run of a file of JSON lines. Errors: StoreError if it cannot be read."""
    return list(results_of(read_lines(path), path))


def read_lines(path: Path) -> list[str]:
    """Every line of a file, whatever it holds. Errors: StoreError if it cannot be read."""
    try:
        # Not by splitlines(): JSON may hold other ends of lines, as they are.
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise StoreError(f"cannot read results from {path}: {error.strerror}") from error


def write_text(path: Path, results: Iterable[Result]) -> None:
    """A whole file of JSON lines, in place of what was there, all or nothing. Errors:
    StoreError."""
    write_lines(path, map(line_of, results))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A whole file of lines, in place of what was there, all or nothing. Errors: StoreError."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            newline="\n",
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is for its owner alone; what is tracked is for all.
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write results to {path}: {error.strerror}; what was there is kept"
        ) from error
