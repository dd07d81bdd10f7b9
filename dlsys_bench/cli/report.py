"""Show stored runs, and what becomes of the published claims."""

from __future__ import annotations

import json
from collections import Counter
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


@click.command("claims")
@click.argument("study", required=False)
@click.option(
    "--runs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Files of runs at tier full to judge beside the stored ones; repeatable.",
)
@click.option(
    "--engine", default="numpy", show_default=True, help="Whose runs: one engine at a time."
)
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the table as Markdown."
)
@as_json
def claims_command(
    study: str | None, runs: tuple[Path, ...], engine: str, output: Path | None, as_json: bool
) -> None:
    """What the notebooks publish, of STUDY or of all: published, measured with its interval,
    ruling, reason."""
    from dlsys_bench.errors import nearest
    from dlsys_bench.notebooks.claims import claims
    from dlsys_bench.notebooks.rulings import rule
    from dlsys_bench.report.tables import claims_table
    from dlsys_bench.runs.store import read

    rulings = rule(study, [run for path in runs for run in read(path)], engine)
    if not rulings:
        studies = list(dict.fromkeys(claim["study"] for claim in claims()))
        raise UserError(
            f"no claims of {study!r}{nearest(str(study), studies)}; there are some of {', '.join(studies)}"
        )
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in rulings], indent=1))
        return
    counts = Counter(one.ruling.value for one in rulings)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    table = claims_table(rulings, f"{len(rulings)} claims: {said}")
    if output is None:
        show(table)
        return
    try:
        output.write_text(table.markdown(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the claims to {output}: {error.strerror}") from error
    click.echo(output)
