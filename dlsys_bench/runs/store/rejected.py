"""Lines of files, and rows of stores, that are not runs: they are set aside and reported."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dlsys_bench.errors import StoreError, StoreWarning
from dlsys_bench.runs.result import Result
from dlsys_bench.strict_json import loads
from dlsys_bench.text import one_line

SHOWN = 5
"""The number of lines of one file that are reported each; the others are counted."""


LONGEST = 300
"""The number of characters of the longest reason."""


class Rejected(NamedTuple):
    """A line or a row that is not a run: its place in the file, the reason, and its content."""

    place: str
    reason: str
    content: bytes
    unfinished: bool = False


def parse(content: bytes, place: str, unfinished: bool = False) -> Result | Rejected:
    """Return the run in a line. An `unfinished` line is one that does not end."""
    try:
        return Result.from_dict(loads(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        return Rejected(place, f"byte {error.start + 1} is not UTF-8", content, unfinished)
    except ValueError as error:
        reason = f"{error} (the line is cut off)" if unfinished else str(error)
        return Rejected(place, one_line(reason, LONGEST), content, unfinished)


def report(path: Path, rejected: Sequence[Rejected], runs: int) -> None:
    """Warn of what was set aside in a file that has this many runs.

    Raises StoreError if a file that has other contents has no run. One that has only the beginning
    of a line is a file of runs whose first one was interrupted.
    """
    if not rejected:
        return
    first, number = rejected[0], len(rejected)
    interrupted = number == 1 and first.unfinished and first.content.lstrip().startswith(b"{")
    if not runs and not interrupted:
        raise StoreError(
            f"{path} holds no runs: {first.place} is not a run: {first.reason}"
            + (f"; neither are {number - 1:,} more" if number > 1 else "")
        )
    for one in rejected[:SHOWN]:
        warn(f"{path}, {one.place} is not a run and was set aside: {one.reason}")
    if number > 1:
        left = f", of which {SHOWN} are shown" if number > SHOWN else ""
        warn(f"{path}: {number:,} of {number + runs:,} were set aside{left}")


def rejected_path(path: Path) -> Path:
    """Return the file in which the rejected lines of a file are set aside, next to it."""
    return path.with_name(f"{path.name}.rejected")


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write the rejected lines of a file, as they are, next to it. Raises StoreError."""
    aside = rejected_path(path)
    try:
        aside.write_bytes(b"".join(one.content + b"\n" for one in rejected))
    except OSError as error:
        raise StoreError(f"cannot write results to {aside}: {error.strerror}") from error


def warn(message: str) -> None:
    """Warn about the contents of a file."""
    warnings.warn(message, StoreWarning, stacklevel=2)
