"""Look at stored runs, and carry them from one file to another."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlsys_bench.cli.options import RUNS, as_json
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.errors import UserError

if TYPE_CHECKING:
    from dlsys_bench.runs.store import Record

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = ("study", "arm", "dataset", "tier", "engine", "device", "status")

store_option = click.option(
    "--store",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=RUNS,
    show_default=True,
    help="The store.",
)
every_option = click.option(
    "--every", is_flag=True, help="Every attempt, not the last of each run alone."
)


def choosing(command: F) -> F:
    """An option for each column that runs are chosen by."""
    for name in reversed(COLUMNS):
        command = click.option(f"--{name}", metavar="NAME", help=f"Only runs of this {name}.")(
            command
        )
    return command


@click.group("runs")
def runs_group() -> None:
    """Stored runs: list, show, export and import them."""


def _records(path: Path, every: bool, chosen: dict[str, str | None]) -> list[Record]:
    from dlsys_bench.runs.store import Store

    if not path.exists():
        raise UserError(
            f"no store {path}: `dlsys-bench run` and `gate` make one, --store names another"
        )
    with Store(path) as store:
        return store.records(
            every, **{name: value for name, value in chosen.items() if value is not None}
        )


@runs_group.command("list")
@store_option
@choosing
@every_option
@as_json
def list_command(path: Path, every: bool, as_json: bool, **chosen: str | None) -> None:
    """How many runs there are of each arm, and when the first and the last of them ended."""
    from dlsys_bench.report.tables import runs_table

    records = _records(path, every, chosen)
    if as_json:
        for record in records:
            key = {name: getattr(record.result, name) for name in (*COLUMNS, "seed", "protocol")}
            click.echo(
                json.dumps(
                    {"number": record.number, "attempt": record.attempt, "time": record.time} | key
                )
            )
    else:
        show(runs_table(records, f"{len(records)} runs in {path}"))


@runs_group.command("show")
@click.argument("number", type=click.IntRange(min=1))
@store_option
def show_command(number: int, path: Path) -> None:
    """One run whole, by its NUMBER (see list --json), as JSON."""
    records = _records(path, True, {"id": str(number)})
    if not records:
        raise UserError(
            f"{path} has no run {number}: `dlsys-bench runs list --json` gives the numbers"
        )
    click.echo(json.dumps(records[0].result.to_dict(), indent=1))


@runs_group.command("export")
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path), required=False)
@store_option
@choosing
@every_option
def export_command(output: Path | None, path: Path, every: bool, **chosen: str | None) -> None:
    """Write runs to OUTPUT, a file of JSON lines, or to the terminal."""
    from dlsys_bench.runs.store import line_of, write_text

    results = [record.result for record in _records(path, every, chosen)]
    if output is None:
        sys.stdout.writelines(map(line_of, results))
        return
    write_text(output, results)
    say(f"{len(results)} runs written to {output}")


@runs_group.command("import")
@click.argument(
    "files", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True
)
@store_option
def import_command(files: tuple[Path, ...], path: Path) -> None:
    """Add the runs of FILES, of JSON lines or stores. A run that is there already is left out."""
    from dlsys_bench.runs.store import Store, read

    with Store(path) as store:
        for file in files:
            results = read(file)
            # Of a file with several attempts at one run it is the last that counts, as in a store.
            last = {result.key: result for result in results}
            stored = store.add_all(last.values(), once=True)
            say(
                f"{file}: {len(results)} runs, {stored} stored, {len(results) - stored} were there already"
            )


@runs_group.command("release")
@store_option
def release_command(path: Path) -> None:
    """Give up the runs that processes of other hosts have taken on: those of this one are known to
    live or not.

    A command that ended on another host without a word leaves its runs reserved; one that lives
    would make them twice.
    """
    from dlsys_bench.runs.store import Store
    from dlsys_bench.runs.store.owner import Owner

    if not path.exists():
        raise UserError(f"no store {path}: --store names another")
    with Store(path) as store:
        released = {
            key: owner
            for key, owner in store.reservations().items()
            if owner.host != Owner.this().host
        }
        for key, owner in released.items():
            store.release(key, owner)
    hosts = ", ".join(sorted({owner.host for owner in released.values()}))
    say(f"{len(released)} runs released" + (f", of {hosts}" if hosts else ""))
