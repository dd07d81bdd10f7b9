"""Accept an intended change of a user's own training, and show what was accepted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.attributes import module_of
from dlsys_bench.cli.calibrate import CalibrateOptions, train_jobs
from dlsys_bench.cli.reference import is_training
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE
from dlsys_bench.report.layout import wrapped
from dlsys_bench.runs.calibration import jobs_of_training
from dlsys_bench.runs.callables import runs_named
from dlsys_bench.runs.module_files import spec_of
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import Store, check_writable, is_text, read, reference_path
from dlsys_bench.strict_json import dumps
from dlsys_bench.text import printable
from dlsys_bench.verdicts.acceptance import accepted, differences, history, replace_runs
from dlsys_bench.verdicts.independence import NO_EFFECT
from dlsys_bench.verdicts.repeats import repeated_seeds


@dataclass(frozen=True)
class AcceptOptions:
    """The argument and the options of `baseline accept`."""

    target: str
    reference: Path | None
    why: str | None
    seeds: int
    workers: int | None
    store: Path
    json: bool


@dataclass(frozen=True)
class LogOptions:
    """The argument and the options of `baseline log`."""

    target: str
    reference: Path | None
    json: bool


@receives(AcceptOptions)
def accept_command(options: AcceptOptions) -> None:
    """Train, show the old runs against the new, and write the new in place of the old."""
    if not options.why or not options.why.strip():
        raise UserError("--why TEXT states the reason for the change; it is stored with the runs")
    path, old = _baseline(options.target, options.reference)
    stored = old[0].key.study
    # The training may have another name here than where it was calibrated.
    name = stored if Path(options.target).is_file() else options.target
    if not is_training(name):
        raise UserError(f"{name} is a study; `dlsys-bench calibrate {name}` makes its runs")
    for file in (path, options.store):
        check_writable(file)
    new = _trained(name, options)
    runs = accepted(old, new, options.why.strip(), _folder_of(name))
    replace_runs(path, stored, runs)
    if options.json:
        emit(dumps({"reference": str(path), "accepted": history(runs)[-1]}, indent=1))
        return
    for line in differences(old, new):
        click.echo(_wrapped(line))
    say(f"{path}: {len(runs)} runs in place of {len(old)}; commit the file")


@receives(LogOptions)
def log_command(options: LogOptions) -> None:
    """Print what was accepted, the oldest first."""
    path, runs = _baseline(options.target, options.reference)
    records = history(runs)
    if options.json:
        emit(dumps(records, indent=1))
        return
    if not records:
        say(f"{path}: nothing was accepted since its first calibration")
    for record in records:
        click.echo(f"{record['when']}, commit {record['commit'] or 'unknown'}")
        click.echo(_wrapped(f"by {record['who'] or 'unknown'}: {record['why']}", "  "))
        for line in record["difference"]:
            click.echo(_wrapped(line, "  "))


def _wrapped(line: str, indent: str = "") -> str:
    """Return a line as lines of at most PAGE columns."""
    return "\n".join(wrapped(indent, printable(line), PAGE))


def _baseline(target: str, reference: Path | None) -> tuple[Path, list[Result]]:
    """Return the file of a training, or of the only one in a file, and its runs."""
    given = Path(target)
    a_file = given.is_file() or is_text(given)
    path = reference or (given if a_file else reference_path(target))
    if not path.exists() and path == given:
        raise UserError(
            f"no file {path}; expected a file of reference runs, or package.module:train"
        )
    if not path.exists():
        raise UserError(
            f"no reference runs of {target} in {path}: `dlsys-bench calibrate {target} --seeds 20` "
            "makes the first ones; --reference names another file"
        )
    if not is_text(path):
        raise UserError(f"{path} is a store; a baseline is a text file, NAME.jsonl")
    runs = read(path)
    found = runs_named(runs, target)
    if not found:
        names = dict.fromkeys(run.key.study for run in runs)
        raise UserError(f"{path} has {', '.join(names) or 'no runs'}: name one of them as TARGET")
    return path, found


def _folder_of(name: str) -> Path:
    """Return the folder of the module of a training."""
    spec = spec_of(module_of(name))
    return Path(spec.origin).parent if spec is not None and spec.origin else Path.cwd()


def _trained(name: str, options: AcceptOptions) -> list[Result]:
    """Train the new runs. Exits with code 2 if one fails; raises UserError if seeds have no effect.

    The file of reference runs is unchanged then.
    """
    jobs = jobs_of_training(name, range(options.seeds))
    work = CalibrateOptions(
        engines=(),
        device="cpu",
        dataset=None,
        data_dir=None,
        scaling=None,
        tier="",
        target=name,
        seeds=options.seeds,
        first_seed=0,
        workers=options.workers,
        cluster=None,
        store=options.store,
        reference=False,
        output=None,
        resume=False,
        better=(),
        json=options.json,
    )
    with Store(options.store) as store:
        found = train_jobs(jobs, store, work, again=True)
        if found.failures:
            say("the baseline is unchanged")
            sys.exit(2)
        keys = {job.key for job in jobs}
        new = [run for run in store.runs() if run.key in keys]
    if repeated := repeated_seeds(new):
        raise UserError(f"{name}: {repeated}: {NO_EFFECT}")
    return sorted(new, key=lambda run: run.seed)
