"""The stored runs that a calibration does not train again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dlsys_bench.errors import UserError
from dlsys_bench.runs.calibration import Job
from dlsys_bench.runs.dependencies import changes_since, summary
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.store import Store, read

Files = dict[Path, tuple[str, ...]]
"""The reference files that jobs belong to, with the arms in order."""


class Reuse(NamedTuple):
    """The runs that are not trained: their keys, and which of these the reference files hold.

    `again` states that runs are trained although the store has them.
    """

    keys: set[Key]
    in_files: set[Key]
    again: bool


def check_protocols(jobs: Sequence[Job], files: Files) -> None:
    """Raise a UserError if a file holds runs of a training that has changed since.

    They would be mistaken for runs from the same distribution as the new ones.
    """
    now = {job.key.study: job.key.protocol for job in jobs if job.key.engine == CALLABLE}
    for file in files if now else ():
        for run in read(file) if file.exists() else ():
            if run.key.study not in now:
                continue
            changed = changes_since(run)
            if changed or run.key.protocol != now[run.key.study]:
                raise UserError(
                    f"{file} holds runs of an earlier {run.key.study}: "
                    f"{summary(changed) or 'its code or the version of a package has changed'}; "
                    f"accept that with `dlsys-bench baseline accept {file} --why TEXT`, or give "
                    "another --output"
                )


def reusable(jobs: Sequence[Job], files: Files, store: Store, resume: bool | None) -> Reuse:
    """Find the runs that need not be trained.

    A new file for a user's training is trained for: the store may hold runs from long ago, or from
    another machine, which only `--resume` requests.
    """
    if resume is False:
        return Reuse(set(), set(), again=True)
    wanted = {job.key for job in jobs}
    in_files = {run.key for file in files if file.exists() for run in read(file)} & wanted
    if resume is None and any(key.engine == CALLABLE for key in wanted):
        return Reuse(in_files, in_files, again=True)
    stale = _stale(store, jobs)
    kept = ((store.keys() & wanted) | in_files) - stale
    return Reuse(kept, in_files & kept, again=bool(stale))


def _stale(store: Store, jobs: Sequence[Job]) -> set[Key]:
    """The keys of the stored runs of a training whose data files have changed since."""
    wanted = {job.key for job in jobs if job.key.engine == CALLABLE} & store.keys()
    runs = store.runs() if wanted else []
    return {run.key for run in runs if run.key in wanted and changes_since(run)}
