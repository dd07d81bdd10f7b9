"""Show stored runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dlsys_bench.cli.options import RUNS, as_json
from dlsys_bench.cli.terminal import show
from dlsys_bench.errors import UserError


@click.command("report")
@click.argument("runs", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports"),
    show_default=True,
)
@as_json
def report_command(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Tables and curves of stored RUNS (default: reports/runs.db): the terminal, report.md and PNG
    files."""
    from dlsys_bench.report import page
    from dlsys_bench.report.tables import tables
    from dlsys_bench.runs.store import read

    results = [run for path in runs or (RUNS,) for run in read(path)]
    if not results:
        raise UserError(
            f"no runs in {', '.join(map(str, runs or (RUNS,)))}: `dlsys-bench run regularization` makes some"
        )
    if as_json:
        click.echo(json.dumps([result.to_dict() for result in results]))
        return
    for table in tables(results):
        show(table)
    try:
        written = page.write(results, output)
    except OSError as error:
        raise UserError(f"cannot write the report to {output}: {error.strerror}") from error
    for path in written:
        click.echo(path)
