"""Report stored runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.terminal import emit
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import receives
from dlsys_bench.options.table import RUNS
from dlsys_bench.report import page
from dlsys_bench.report.display import show
from dlsys_bench.report.tables import tables
from dlsys_bench.runs.store import read_all
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class ReportOptions:
    """The arguments and the options of `report`."""

    runs: tuple[Path, ...]
    output: Path
    json: bool


@receives(ReportOptions)
def report_command(options: ReportOptions) -> None:
    """Print the tables of the runs, and write the report."""
    paths = options.runs or (RUNS,)
    results = read_all(paths)
    if not results:
        raise UserError(
            f"no runs in {', '.join(map(str, paths))}: `dlsys-bench run STUDY` creates them"
        )
    if options.json:
        emit(dumps([result.to_dict() for result in results]))
        return
    for table in tables(results):
        show(table)
    try:
        written = page.write(results, options.output)
    except OSError as error:
        raise UserError(f"cannot write the report to {options.output}: {error.strerror}") from error
    for path in written:
        click.echo(path)
