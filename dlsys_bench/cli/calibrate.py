"""Make the runs that bands are made of, many at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlsys_bench.cli.options import RUNS, as_json, data_dir
from dlsys_bench.cli.terminal import progress, say
from dlsys_bench.cli.training import work_of
from dlsys_bench.engines.registry import NAMES
from dlsys_bench.errors import UserError

if TYPE_CHECKING:
    from dlsys_bench.runs.calibration import Calibration, Failure, Job
    from dlsys_bench.runs.result import Result

Files = dict[Path, tuple[str, ...]]
"""The reference files that jobs belong to, with the arms in order."""


@click.command("calibrate")
@click.argument("target")
@click.option(
    "--engine",
    "engine_names",
    multiple=True,
    default=("numpy",),
    envvar="DLSYS_BENCH_ENGINE",
    show_default=True,
    help=f"{NAMES}; repeatable.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--dataset",
    help="mnist, fashion_mnist, digits, a .npz file, or package.module:callable. Default: the "
    "study's own where it is at hand, else digits.",
)
@data_dir
@click.option("--tier", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=20, show_default=True, help="Runs of each arm."
)
@click.option("--first-seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes. Default: one a core; with cuda, one.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="A dask scheduler, as tcp://host:8786, in place of own workers.",
)
@click.option(
    "--store",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=RUNS,
    show_default=True,
    help="Where each run is kept as it ends.",
)
@click.option(
    "--reference/--no-reference",
    default=True,
    show_default=True,
    help="Merge the runs into the tracked text that bands are made of.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="That file. Default: reports/reference/STUDY.DATASET.TIER.jsonl.",
)
@click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Leave out what is there already."
)
@as_json
def calibrate_command(
    target: str,
    engine_names: tuple[str, ...],
    device: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
    seeds: int,
    first_seed: int,
    workers: int | None,
    cluster: str | None,
    path: Path,
    reference: bool,
    output: Path | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Train TARGET with many seeds at a time, keep every run, and write the file that its bands are
    read from.

    TARGET is a study, a group, study/arm, "all", package.module:STUDY, or package.module:train,
    anyone's training: a callable of a seed. Several commands at once share the work. Exit codes: 0
    every run is there, 2 usage, environment, or a run ended in an error.
    """
    from dlsys_bench.provenance import cores
    from dlsys_bench.runs.calibration import merge
    from dlsys_bench.runs.store import Store, check_writable, read

    if output is not None and not reference:
        raise UserError("--output is the reference file: leave it out, or --no-reference")
    numbers = range(first_seed, first_seed + seeds)
    jobs, files = _jobs(target, engine_names, device, dataset, data_dir, tier, numbers, output)
    check_writable(path)
    for file in files if reference else ():
        check_writable(file)
    _check_protocols(jobs, files)
    with Store(path) as store:
        kept = store.keys() if resume else set()
        kept |= {run.key for file in files if resume and file.exists() for run in read(file)}
        left = [job for job in jobs if job.key not in kept]
        workers = workers or (1 if device == "cuda" else cores())
        found = _calibrated(
            left, store, cluster, min(workers, max(1, len(left))), device, not resume, as_json
        )
        written = {}
        if reference:
            asked = {job.key for job in jobs}
            runs = [run for run in store.runs() if run.key in asked]
            for file, arms in files.items():
                own = [
                    run
                    for run in runs
                    if _file(run.key.study, run.key.dataset, run.key.tier, output) == file
                ]
                written[file] = merge(file, own, arms, again=not resume)
    _report(found, len(jobs), len(jobs) - len(left), path, written, as_json)
    sys.exit(2 if found.failures else 0)


def _check_protocols(jobs: Sequence[Job], files: Files) -> None:
    """Raise a UserError where a file holds runs of a training that has changed since: with the new
    ones they would be taken for one law."""
    from dlsys_bench.runs.callables import ENGINE
    from dlsys_bench.runs.store import read

    now = {job.key.study: job.key.protocol for job in jobs if job.key.engine == ENGINE}
    for file in files if now else ():
        for run in read(file) if file.exists() else ():
            if run.key.study in now and run.key.protocol != now[run.key.study]:
                raise UserError(
                    f"{file} holds runs of {run.key.study} as it was: its module's source, or the version of a package, "
                    "has changed since; name another --output, or delete the file"
                )


def _jobs(
    target: str,
    engine_names: tuple[str, ...],
    device: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
    seeds: range,
    output: Path | None,
) -> tuple[list[Job], Files]:
    """The jobs in order, and the files they belong to. All that can be wrong is found here."""
    from dlsys_bench.attributes import load_attribute
    from dlsys_bench.runs.calibration import jobs_of_study, jobs_of_training
    from dlsys_bench.runs.callables import find_train
    from dlsys_bench.studies.base import Study

    home = target.partition("/")[0]
    if ":" in target and not isinstance(load_attribute(home, "study or training"), Study):
        find_train(target)
        return jobs_of_training(target, seeds), {_file(target, "", "", output): ()}
    work = work_of(target, engine_names, device, dataset, data_dir, tier)
    files: Files = {}
    for case, _, data in work:
        files[_file(case.study.name, data.name, tier, output)] = tuple(
            arm.name for arm in case.study.arms
        )
    return jobs_of_study(work, tier, seeds, data_dir), files


def _file(study: str, dataset: str, tier: str, output: Path | None) -> Path:
    from dlsys_bench.runs.store import REFERENCE, file_name, reference_path

    if output is not None:
        return output
    return reference_path(study, dataset, tier) if tier else REFERENCE / f"{file_name(study)}.jsonl"


def _calibrated(
    jobs: list[Job],
    store: Any,
    address: str | None,
    workers: int,
    device: str,
    again: bool,
    quiet: bool,
) -> Calibration:
    """Train what is left, with a bar; a run that fails is said at once."""
    from dlsys_bench.runs.calibration import Calibration, Failure, calibrate
    from dlsys_bench.runs.calibration.cluster import connected

    if not jobs:
        return Calibration()
    with progress(len(jobs)) as advance, connected(address, workers, device) as client:

        def told(job: Job, ended: Result | Failure | None) -> None:
            advance(job.name, 1)
            if isinstance(ended, Failure):
                say(f"failed: {job.name}: {ended.error}")
            elif ended is not None and ended.status != "finished" and not quiet:
                say(f"{job.name}: {ended.status}: {ended.reason}")

        def waits(jobs: list[Job]) -> None:
            taken = store.reservations()
            owners = {
                f"process {o.pid} on {o.host}"
                for o in (taken.get(job.key) for job in jobs)
                if o is not None
            }
            if owners:
                who = ", ".join(sorted(owners))
                say(
                    f"waiting for {len(jobs)} runs that {who} has taken on; "
                    f"if that host is gone: dlsys-bench runs release --store {store.path}"
                )

        return calibrate(jobs, store, client, device=device, again=again, told=told, waits=waits)


def _report(
    found: Calibration, asked: int, kept: int, path: Path, written: dict[Path, int], as_json: bool
) -> None:
    counts = {
        "asked": asked,
        "there already": kept,
        "trained": found.trained,
        "by another command": found.elsewhere,
        "diverged": found.diverged,
        "failed": len(found.failures),
    }
    if as_json:
        files = {str(file): count for file, count in written.items()}
        failures = [failure.to_dict() for failure in found.failures]
        named = {name.replace(" ", "_"): count for name, count in counts.items()}
        click.echo(
            json.dumps(
                named | {"store": str(path), "reference": files, "failures": failures}, indent=1
            )
        )
        return
    shown = [
        f"{count} {name}" for name, count in counts.items() if count or name in ("asked", "trained")
    ]
    say(f"runs: {', '.join(shown)}; kept in {path}")
    for file, count in written.items():
        say(f"{file}: {count} runs new")
