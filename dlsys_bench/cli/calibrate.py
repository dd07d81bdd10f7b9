"""Make reference runs, many in parallel."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.calibration_summary import lines_of_training
from dlsys_bench.cli.reference import is_training
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.cli.training import WorkOptions, work_of
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.options.command import receives
from dlsys_bench.provenance import cores
from dlsys_bench.report.display import latest_figures, progress
from dlsys_bench.runs.calibration import (
    FAILURES_TO_STOP,
    Calibration,
    Failure,
    Job,
    calibrate,
    jobs_of_study,
    jobs_of_training,
    merge,
    start_workers,
)
from dlsys_bench.runs.dependencies import changes_since, summary
from dlsys_bench.runs.direction import read_better, with_better
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import (
    Store,
    check_writable,
    read,
    reference_path,
)
from dlsys_bench.strict_json import dumps
from dlsys_bench.verdicts.independence import NO_EFFECT
from dlsys_bench.verdicts.repeats import repeated_seeds

Files = dict[Path, tuple[str, ...]]
"""The reference files that jobs belong to, with the arms in order."""


@dataclass(frozen=True)
class CalibrateOptions(WorkOptions):
    """The argument and the options of `calibrate`."""

    target: str
    seeds: int
    first_seed: int
    workers: int | None
    cluster: str | None
    store: Path
    reference: bool
    output: Path | None
    resume: bool
    better: tuple[str, ...]
    json: bool

    def file_of(self, study: str, dataset: str, tier: str) -> Path:
        """The reference file of a study; the runs of a callable have no dataset and no tier."""
        return self.output or reference_path(study, dataset, tier)

    def workers_for(self, jobs: int) -> int:
        """The number of local workers."""
        return min(self.workers or (1 if self.device == "cuda" else cores()), max(1, jobs))


@receives(CalibrateOptions)
def calibrate_command(options: CalibrateOptions) -> None:
    """Train the runs that are missing, and merge them into the reference files."""
    if options.output is not None and not options.reference:
        raise UserError("--output is the file of reference runs: omit it, or omit --no-reference")
    read_better(options.better)  # A mistake is reported before anything is trained.
    jobs, files = _jobs(options)
    check_writable(options.store)
    for file in files if options.reference else ():
        check_writable(file)
    _check_protocols(jobs, files)
    created = not options.store.exists()
    with Store(options.store) as store:
        try:
            stale = _stale(store, jobs)
            kept = _stored(store, files) - stale if options.resume else set()
            left = [job for job in jobs if job.key not in kept]
            again = bool(stale) or not options.resume
            found = train_jobs(left, store, options, again)
            written = _merge(jobs, files, store, options, again) if options.reference else {}
        finally:
            if created:
                store.remove_if_empty()
    runs = _runs_of_training(jobs, options.store)
    repeated = _repeated(runs)
    _report(found, len(jobs), len(jobs) - len(left), options, written)
    if repeated:
        say(f"{options.target}: {repeated}: {NO_EFFECT}")
    elif runs and not options.json:
        for line in lines_of_training(options.target, runs, next(iter(files))):
            say(line)
    sys.exit(2 if found.failures or repeated else 0)


def _jobs(options: CalibrateOptions) -> tuple[list[Job], Files]:
    """The jobs in order, and the files they belong to. Raises UserError for every mistake."""
    target, seeds = options.target, range(options.first_seed, options.first_seed + options.seeds)
    if is_training(target):
        return jobs_of_training(target, seeds), {options.file_of(target, "", ""): ()}
    work = work_of(target, options)
    files = {
        options.file_of(case.study.name, data.name, options.tier): tuple(
            arm.name for arm in case.study.arms
        )
        for case, _, data in work
    }
    return jobs_of_study(work, options.tier, seeds, options.data_dir), files


def _check_protocols(jobs: Sequence[Job], files: Files) -> None:
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
                    "give another --output, or delete the file"
                )


def _stored(store: Store, files: Files) -> set[Key]:
    """The keys of the runs that the store and the reference files hold."""
    return store.keys() | {run.key for file in files if file.exists() for run in read(file)}


def _stale(store: Store, jobs: Sequence[Job]) -> set[Key]:
    """The keys of the stored runs of a training whose data files have changed since."""
    wanted = {job.key for job in jobs if job.key.engine == CALLABLE} & store.keys()
    runs = store.runs() if wanted else []
    return {run.key for run in runs if run.key in wanted and changes_since(run)}


def train_jobs(
    jobs: list[Job], store: Store, options: CalibrateOptions, again: bool
) -> Calibration:
    """Train with a progress bar; print each run that fails or diverges."""
    if not jobs:
        return Calibration()
    count, failures = options.workers_for(len(jobs)), Counter[tuple[str, str]]()
    with (
        progress(len(jobs), "runs") as advance,
        start_workers(options.cluster, count, options.device) as workers,
    ):

        def on_end(job: Job, ended: Result | Failure | None) -> None:
            latest = f": {latest_figures(ended)}" if isinstance(ended, Result) else ""
            advance(f"{job.name}{latest}", 1)
            if isinstance(ended, Failure):
                failures[ended.kind] += 1
                if failures[ended.kind] == 1 and ended.trace:
                    say(ended.trace.rstrip())
                if failures[ended.kind] <= FAILURES_TO_STOP:
                    say(f"failed: {job.name}: {ended.error}")
            elif ended is not None and ended.status != "finished" and not options.json:
                say(f"{job.name}: {ended.status}: {ended.reason}")

        return calibrate(
            jobs,
            store,
            workers,
            again=again,
            on_end=on_end,
            on_wait=lambda waiting: _say_waiting(waiting, store),
        )


def _runs_of_training(jobs: Sequence[Job], path: Path) -> list[Result]:
    """The stored runs of a calibrated training; none for a study."""
    keys = {job.key for job in jobs if job.key.engine == CALLABLE}
    if not keys or not path.exists():
        return []
    with Store(path) as store:
        return [run for run in store.runs() if run.key in keys]


def _repeated(runs: Sequence[Result]) -> str | None:
    """Describe the runs that are equal in all figures, or fold the seed in one of them."""
    names = dict.fromkeys(name for run in runs for name in run.figures)
    each = (repeated_seeds(runs, name) for name in (None, *names))
    return next(filter(None, each), None)


def _say_waiting(jobs: Sequence[Job], store: Store) -> None:
    """Name the processes whose runs this command waits for."""
    reserved = store.reservations()
    found = [reserved[job.key] for job in jobs if job.key in reserved]
    owners = sorted({f"process {owner.pid} on {owner.host}" for owner in found})
    if owners:
        say(
            f"waiting for {count_of(len(jobs), 'run')} reserved by {', '.join(owners)}; "
            f"if that host is down: dlsys-bench runs release --store {store.path}"
        )


def _merge(
    jobs: Sequence[Job], files: Files, store: Store, options: CalibrateOptions, again: bool
) -> dict[Path, int]:
    """Merge the runs of the jobs into the reference files; the number of new runs in each."""
    keys = {job.key for job in jobs}
    better = read_better(options.better)
    runs = [with_better(run, better) for run in store.runs() if run.key in keys]
    again = again or bool(better)
    return {
        file: merge(
            file,
            [run for run in runs if _file_of(run, options) == file],
            arms,
            again=again,
        )
        for file, arms in files.items()
    }


def _file_of(run: Result, options: CalibrateOptions) -> Path:
    return options.file_of(run.key.study, run.key.dataset, run.key.tier)


def _report(
    found: Calibration, jobs: int, kept: int, options: CalibrateOptions, written: dict[Path, int]
) -> None:
    counts = {
        "requested": jobs,
        "already stored": kept,
        "trained": found.trained,
        "by another command": found.elsewhere,
        "diverged": found.diverged,
        "failed": len(found.failures),
        "given up": found.given_up,
    }
    if options.json:
        report = {name.replace(" ", "_"): count for name, count in counts.items()} | {
            "store": str(options.store),
            "reference": {str(file): count for file, count in written.items()},
            "failures": [failure.to_dict() for failure in found.failures],
        }
        emit(dumps(report, indent=1))
        return
    always = ("requested", "trained")
    if found.given_up:
        say(
            f"the first {FAILURES_TO_STOP} runs of a training failed in the same way: "
            f"{count_of(found.given_up, 'run')} of it {'was' if found.given_up == 1 else 'were'} "
            "given up"
        )
    shown = [f"{count} {name}" for name, count in counts.items() if count or name in always]
    stored = f"; stored in {options.store}" if options.store.exists() else ""
    say(f"runs: {', '.join(shown)}{stored}")
    for file, count in written.items() if found.trained or not found.failures else ():
        say(f"{file}: {count_of(count, 'new run')}")
