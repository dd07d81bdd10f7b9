"""Runs as text, one JSON line each: the format of files that people read and git tracks."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.identity import Found
from dlsys_bench.runs.store.rejected import Rejected, parse
from dlsys_bench.strict_json import dumps

OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""The marks at the beginning of texts that are not UTF-8."""

PROBE_BYTES = 65536
"""The number of bytes that are written to find out if a file can be created."""

DIGITS = 7
"""Significant digits of the figures in a file, the precision of float32."""


def line_of(result: Result) -> str:
    """Return the JSON line of a result. Raises StoreError if a value is not a plain one."""
    values = result.to_dict()
    # The recipe keeps all digits: only measured values are rounded. The figures of a user's own
    # training keep theirs, since its required precision is unknown.
    names = ["history", "seconds"] + (["figures"] if result.key.engine != CALLABLE else [])
    try:
        measured = {name: _shorten(values[name]) for name in names}
        return dumps(values | measured, separators=(",", ":")) + "\n"
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"a run of {result.key.study} has a value that is not plain: {error}"
        ) from error


def _shorten(value: Any) -> Any:
    """Round every float in a JSON value to the digits of a file."""
    # Figures may be scalars of a framework.
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    return value


def open_to_append(path: Path) -> int:
    """Open a file to append to, create it if necessary, and return its descriptor.

    It is also called before a long training, to find out early that its result could not be
    written. Raises StoreError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Windows would otherwise write every newline as two bytes.
        binary: int = getattr(os, "O_BINARY", 0)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | binary, 0o644)
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error


def check_creatable(path: Path) -> None:
    """Raise a StoreError if a file cannot be created. No file and no folder is left behind."""
    try:
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"cannot write results to {path}: {error.strerror}") from error


def check_text_writable(path: Path) -> None:
    """Raise a StoreError if a text file cannot be written. One that is missing is not created."""
    if path.exists():
        os.close(open_to_append(path))
    else:
        check_creatable(path)


def append_text(path: Path, result: Result) -> None:
    """Append a run to a file, as `append_line` appends a line. Raises StoreError."""
    append_line(path, line_of(result))


def append_line(path: Path, line: str) -> None:
    """Append a line with its newline, durably and completely.

    A write that fails is undone. Raises StoreError.
    """
    data = line.encode()
    descriptor = open_to_append(path)
    try:
        end = os.fstat(descriptor).st_size
        if end and _last_byte(descriptor) != b"\n":
            # A crash has cut off the last line. The new line must not become part of it.
            data = b"\n" + data
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, "no space left on device")
            os.fsync(descriptor)
        except OSError as error:
            # A device cannot be truncated; the error of the write is the one to report.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise StoreError(
                f"cannot write results to {path}: {error.strerror}; "
                "the runs written before are kept"
            ) from error
    finally:
        os.close(descriptor)


def _last_byte(descriptor: int) -> bytes:
    os.lseek(descriptor, -1, os.SEEK_END)
    return os.read(descriptor, 1)


class Contents(NamedTuple):
    """The lines of a file that are runs, by their place, and the others."""

    runs: list[tuple[Found, str]]
    rejected: list[Rejected]


def read_text(path: Path) -> Contents:
    """Return the contents of a file of JSON lines. Raises StoreError if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"cannot read results from {path}: {error.strerror}") from error
    for mark, encoding in OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise StoreError(f"{path} holds no runs: it is {encoding} text; save it as UTF-8")
    return parse_lines(content.removeprefix(codecs.BOM_UTF8))


def parse_lines(content: bytes) -> Contents:
    """Return the contents of JSON lines."""
    contents = Contents([], [])
    # bytes.splitlines() would also split at a lone carriage return.
    *lines, rest = content.split(b"\n")
    for number, line in enumerate([*lines, rest], start=1):
        if not line.strip():
            continue
        parsed = parse(line, f"line {number}", unfinished=number > len(lines))
        if isinstance(parsed, Rejected):
            contents.rejected.append(parsed)
        else:
            found = Found(f"line {number}", parsed)
            contents.runs.append((found, line.decode().rstrip("\r") + "\n"))
    return contents


def write_text(path: Path, results: Iterable[Result]) -> None:
    """Replace a file by these runs as JSON lines, all or none. Raises StoreError."""
    write_lines(path, map(line_of, results))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a file by these lines, all or none. Raises StoreError."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "wb", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.writelines(line.encode() for line in lines)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are readable by their owner only.
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write results to {path}: {error.strerror}; the previous file is kept"
        ) from error
