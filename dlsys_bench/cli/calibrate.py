"""Make reference runs, many in parallel."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.calibration_summary import (
    StudySummary,
    TrainingSummary,
    summarise,
    summarise_study,
)
from dlsys_bench.cli.reference import is_training
from dlsys_bench.cli.reuse import Files, Reuse, check_protocols, reusable
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.cli.training import Work, WorkOptions, work_of
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
from dlsys_bench.runs.direction import read_better, with_better
from dlsys_bench.runs.key import CALLABLE
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
    resume: bool | None
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
    work = [] if is_training(options.target) else work_of(options.target, options)
    jobs, files = _jobs(options, work)
    check_writable(options.store)
    for file in files if options.reference else ():
        check_writable(file)
    check_protocols(jobs, files)
    created = not options.store.exists()
    with Store(options.store) as store:
        try:
            reuse = reusable(jobs, files, store, options.resume)
            left = [job for job in jobs if job.key not in reuse.keys]
            found = train_jobs(left, store, options, reuse.again)
            written = _merge(jobs, files, store, options, reuse) if options.reference else {}
        finally:
            if created:
                store.remove_if_empty()
    runs = _runs_of_training(jobs, files, options)
    repeated = _repeated(runs)
    summary = None if repeated else _summary(options, work, runs, next(iter(files)))
    dates = sorted(run.provenance.get("time", "")[:10] for run in runs if run.key in reuse.keys)
    counts = _counts(found, len(jobs), len(jobs) - len(left))
    if options.json:
        _emit_json(found, counts, options, written, summary, dates)
    else:
        _report(found, counts, options, written)
        if dates:
            say(f"reused: {count_of(len(dates), 'run')}, trained {_range_of(dates)}")
    if repeated:
        say(f"{options.target}: {repeated}: {NO_EFFECT}")
    elif summary is not None and not options.json:
        for line in summary.lines():
            say(line)
    sys.exit(2 if found.failures or repeated else 0)


def _summary(
    options: CalibrateOptions, work: Sequence[Work], runs: Sequence[Result], path: Path
) -> TrainingSummary | StudySummary | None:
    """Return the summary of the reference runs. It is None for a study without `--reference`, and
    if no run of a training has a figure."""
    if not work:
        return summarise(options.target, runs, path)
    if not options.reference:
        return None
    return summarise_study(options.target, work, options, options.output)


def _jobs(options: CalibrateOptions, work: Sequence[Work]) -> tuple[list[Job], Files]:
    """The jobs in order, and the files they belong to. Raises UserError for every mistake."""
    target, seeds = options.target, range(options.first_seed, options.first_seed + options.seeds)
    if not work:
        return jobs_of_training(target, seeds), {options.file_of(target, "", ""): ()}
    files = {
        options.file_of(case.study.name, data.name, options.tier): tuple(
            arm.name for arm in case.study.arms
        )
        for case, _, data in work
    }
    return jobs_of_study(work, options.tier, seeds, options.data_dir), files


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


def _runs_of_training(jobs: Sequence[Job], files: Files, options: CalibrateOptions) -> list[Result]:
    """The reference runs of a calibrated training, or the stored ones without a reference file;
    none for a study."""
    keys = {job.key for job in jobs if job.key.engine == CALLABLE}
    sources = list(files) if options.reference else [options.store]
    found = [run for path in sources if keys and path.exists() for run in read(path)]
    return [run for run in found if run.key in keys]


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
    jobs: Sequence[Job], files: Files, store: Store, options: CalibrateOptions, reuse: Reuse
) -> dict[Path, int]:
    """Merge the runs of the jobs into the reference files; the number of new runs in each."""
    missing = {job.key for job in jobs} - reuse.in_files
    better = read_better(options.better)
    runs = [run for run in store.runs() if run.key in missing]
    if better:  # The directions are stored with the runs that the files hold, too.
        held = [run for file in files if file.exists() for run in read(file)]
        runs += [run for run in held if run.key in reuse.in_files]
    runs = [with_better(run, better) for run in runs]
    again = reuse.again or bool(better)
    return {
        file: merge(
            file, [run for run in runs if _file_of(run, options) == file], arms, again=again
        )
        for file, arms in files.items()
    }


def _file_of(run: Result, options: CalibrateOptions) -> Path:
    return options.file_of(run.key.study, run.key.dataset, run.key.tier)


def _counts(found: Calibration, jobs: int, kept: int) -> dict[str, int]:
    """The number of runs by what became of them."""
    return {
        "requested": jobs,
        "already stored": kept,
        "trained": found.trained,
        "by another command": found.elsewhere,
        "diverged": found.diverged,
        "failed": len(found.failures),
        "given up": found.given_up,
    }


def _range_of(dates: Sequence[str]) -> str:
    """The first and the last of sorted dates, in words."""
    first, last = dates[0] or "at unknown times", dates[-1]
    return first if first == last or not dates[0] else f"{first} to {last}"


def _emit_json(
    found: Calibration,
    counts: dict[str, int],
    options: CalibrateOptions,
    written: dict[Path, int],
    summary: TrainingSummary | StudySummary | None,
    dates: Sequence[str],
) -> None:
    report = {name.replace(" ", "_"): count for name, count in counts.items()} | {
        "store": str(options.store),
        "reference": {str(file): count for file, count in written.items()},
        "reused": {"runs": len(dates), "trained": _range_of(dates)} if dates else None,
        "failures": [failure.to_dict() for failure in found.failures],
        "summary": summary.to_dict() if summary else None,
    }
    emit(dumps(report, indent=1))


def _report(
    found: Calibration,
    counts: dict[str, int],
    options: CalibrateOptions,
    written: dict[Path, int],
) -> None:
    if found.given_up:
        say(
            f"the first {FAILURES_TO_STOP} runs of a training failed in the same way: "
            f"{count_of(found.given_up, 'run')} of it {'was' if found.given_up == 1 else 'were'} "
            "given up"
        )
    always = ("requested", "trained")
    shown = [f"{count} {name}" for name, count in counts.items() if count or name in always]
    stored = f"; stored in {options.store}" if options.store.exists() else ""
    say(f"runs: {', '.join(shown)}{stored}")
    for file, count in written.items() if found.trained or not found.failures else ():
        say(f"{file}: {count_of(count, 'new run')}")
