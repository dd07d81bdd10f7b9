"""Reference files: the runs that bands are computed from, as text for version control, in the order
of the study's arms and then of the seeds."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dlsys_bench.errors import StoreError
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import line_of
from dlsys_bench.runs.store.lock import folder_lock
from dlsys_bench.runs.store.rejected import report, warn
from dlsys_bench.runs.store.text import read_text, write_lines


def merge(
    path: Path, runs: Iterable[Result], arms: Sequence[str] = (), *, again: bool = False
) -> int:
    """Merge runs into a reference file, one per key; return the number of new keys.

    A run whose key is in the file is dropped, or replaces the stored one with `again`. A file with
    damaged lines is copied beside itself first. Raises StoreError if the file cannot be written; it
    is then unchanged.
    """
    if not (runs := list(runs)) and not path.exists():
        return 0
    # Without the lock, one of two processes that read at the same time would drop the other's runs.
    with folder_lock(path):
        before = _kept(path)
        # Lines that stay are not written anew, so that a diff shows only the new runs.
        new = {run.key: line_of(run) for run in runs}
        merged = before | new if again else new | before
        place = {arm: number for number, arm in enumerate(arms)}

        def order(key: Key) -> tuple[object, ...]:
            return place.get(key.arm, len(place)), key.arm, key.seed, key

        lines = [merged[key] for key in sorted(merged, key=order)]
        if lines and lines != list(before.values()):
            write_lines(path, lines)
        return len(set(new) - set(before))


def _kept(path: Path) -> dict[Key, str]:
    """Return the line of each run in the file, the last one for each key.

    If some lines are not runs, the file is copied beside itself. Raises StoreError if none is one.
    """
    if not path.exists():
        return {}
    contents = read_text(path)
    rejected = contents.rejected
    report(path, rejected, len(contents.runs))
    if rejected:
        aside = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        try:
            shutil.copyfile(path, aside)
        except OSError as error:
            raise StoreError(
                f"cannot write results to {aside}: {error.strerror}; {path} is kept as it was"
            ) from error
        warn(f"{path}: the file as it was is {aside}")
    return {found.result.key: line for found, line in contents.runs}
