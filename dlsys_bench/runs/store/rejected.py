"""Lines of files, and rows of stores, that are not runs: they are set aside and reported."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dlsys_bench.errors import StoreError, StoreWarning, count_of
from dlsys_bench.runs.result import Result
from dlsys_bench.strict_json import loads

SHOWN = 5
"""The number of lines of one file that are reported each; the others are counted."""


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
        return Rejected(place, reason, content, unfinished)


def report(path: Path, rejected: Sequence[Rejected], runs: int) -> None:
    """Warn of what was set aside in a file that has this many runs.

    Raises StoreError if a file that has other contents has no run. One that has only the beginning
    of a line is a file of runs whose first one was interrupted.
    """
    if not rejected:
        return
    first = rejected[0]
    if not runs and not (len(rejected) == 1 and first.unfinished):
        count = "its only line" if len(rejected) == 1 else f"all {len(rejected):,} lines"
        raise StoreError(
            f"{path} holds no runs: {count} rejected, {first.place}: {first.reason}"
        )
    lines = [f"{one.place}: {one.reason}" for one in rejected[:SHOWN]]
    left = f", of which {SHOWN} are shown" if len(rejected) > SHOWN else ""
    total = count_of(len(rejected) + runs, "run")
    summary = f"{len(rejected):,} of {total} set aside{left}"
    warn(path, [*lines, summary])


def warn(path: Path, lines: Iterable[str]) -> None:
    """Warn about a file, one warning per line."""
    for line in lines:
        warnings.warn(f"{path}: {line}", StoreWarning, stacklevel=4)
