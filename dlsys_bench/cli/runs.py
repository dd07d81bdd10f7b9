"""List stored runs, and copy them between files."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import progress, show
from dlsys_bench.report.runs_table import runs_table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import Store, StoredRun, line_of, read_file, write_text
from dlsys_bench.runs.store.identity import Found, last_of_each
from dlsys_bench.runs.store.owner import Owner
from dlsys_bench.runs.store.rejected import rejected_path, warn, write_rejected
from dlsys_bench.strict_json import dumps

COLUMNS = ("study", "arm", "dataset", "tier", "engine", "device", "status")


@dataclass(frozen=True)
class SelectOptions:
    """The options that select runs of a store."""

    store: Path
    study: str | None
    arm: str | None
    dataset: str | None
    tier: str | None
    engine: str | None
    device: str | None
    status: str | None
    every: bool

    def records(self) -> list[StoredRun]:
        """The runs that are selected."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return _records(self.store, self.every, values)


def _records(path: Path, every: bool, values: dict[str, str | None]) -> list[StoredRun]:
    """The runs of a store whose columns have the values that are not None. Raises UserError."""
    _check_exists(path)
    with Store(path) as store:
        return store.stored_runs(
            every, **{name: value for name, value in values.items() if value is not None}
        )


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(
            f"no store {path}: `dlsys-bench run` and `gate` create it; --store chooses another"
        )


@dataclass(frozen=True)
class ListRunsOptions(SelectOptions):
    """The options of `runs list`."""

    json: bool


@receives(ListRunsOptions)
def list_command(options: ListRunsOptions) -> None:
    """Print a table of the arms, or each run as a line of JSON."""
    records = options.records()
    if not options.json:
        show(runs_table(records, f"{count_of(len(records), 'run')} in {options.store}"))
        return
    for record in records:
        head = {"number": record.number, "attempt": record.attempt, "time": record.time}
        result = record.result
        key = result.key.to_dict() | {"status": result.status}
        key = {name: key[name] for name in (*COLUMNS, "seed", "protocol")}
        emit(dumps(head | key))


@dataclass(frozen=True)
class ShowRunOptions:
    """The argument and the options of `runs show`."""

    number: int
    store: Path


@receives(ShowRunOptions)
def show_command(options: ShowRunOptions) -> None:
    """Print one run as JSON."""
    records = _records(options.store, True, {"id": str(options.number)})
    if not records:
        raise UserError(
            f"{options.store} has no run {options.number}: "
            "`dlsys-bench runs list --json` gives the numbers"
        )
    emit(dumps(records[0].result.to_dict(), indent=1))


@dataclass(frozen=True)
class ExportOptions(SelectOptions):
    """The argument and the options of `runs export`."""

    output: Path | None


@receives(ExportOptions)
def export_command(options: ExportOptions) -> None:
    """Write the runs as JSON lines."""
    results = [record.result for record in options.records()]
    if not results:
        raise UserError(f"no runs in {options.store} that the options select: nothing is written")
    if options.output is None:
        sys.stdout.writelines(map(line_of, results))
        return
    write_text(options.output, results)
    say(f"{count_of(len(results), 'run')} written to {options.output}")


@dataclass(frozen=True)
class ImportOptions:
    """The arguments and the options of `runs import`."""

    files: tuple[Path, ...]
    store: Path


@receives(ImportOptions)
def import_command(options: ImportOptions) -> None:
    """Add the runs of files to the store."""
    with progress(2 * len(options.files)) as advance:
        # All files are read before the store is created, which a mistyped name would leave empty.
        readings = {}
        for file in options.files:
            readings[file] = read_file(file)
            advance(f"{file.name} read", 1)
        for file, reading in readings.items():
            if reading.rejected:
                write_rejected(file, reading.rejected)
        with Store(options.store) as store:
            stored = {run.key: run for run in store.runs()}
            for file, (results, rejected) in readings.items():
                _report_conflicts(stored, store.path, file, results)
                added = store.add_all(results, once=True)
                for run in results:
                    stored.setdefault(run.key, run)
                aside = f", {len(rejected):,} set aside in {rejected_path(file)}" * bool(rejected)
                say(
                    f"{file}: {count_of(len(results), 'run')}, {added} added, "
                    f"{len(results) - added} already stored{aside}"
                )
                advance(f"{file.name} stored", 1)


def _report_conflicts(
    stored: Mapping[Key, Result], store: Path, file: Path, results: Sequence[Result]
) -> None:
    """Warn of the runs of a file that the store holds with another result."""
    keys = {run.key for run in results}
    found = [Found(str(store), run) for key, run in stored.items() if key in keys]
    found += [Found(str(file), run) for run in results]
    for conflict in last_of_each(found, "the stored one is kept").conflicts:
        warn(conflict)


@dataclass(frozen=True)
class ReleaseOptions:
    """The options of `runs release`."""

    store: Path


@receives(ReleaseOptions)
def release_command(options: ReleaseOptions) -> None:
    """Release the reservations of processes on other hosts."""
    _check_exists(options.store)
    here = Owner.this().host
    with Store(options.store) as store:
        released = {key: owner for key, owner in store.reservations().items() if owner.host != here}
        for key, owner in released.items():
            store.release(key, owner)
    hosts = ", ".join(sorted({owner.host for owner in released.values()}))
    say(f"{count_of(len(released), 'run')} released" + (f", of {hosts}" if hosts else ""))
