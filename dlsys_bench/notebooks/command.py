"""The command `dlsys-bench claims`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from dlsys_bench.cli.options import as_json
from dlsys_bench.cli.terminal import show
from dlsys_bench.errors import UserError, nearest


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
    from dlsys_bench.notebooks.claims import claims
    from dlsys_bench.notebooks.rulings import rule
    from dlsys_bench.notebooks.rulings.tables import claims_table
    from dlsys_bench.runs.store import read

    rulings = rule(study, [run for path in runs for run in read(path)], engine)
    if not rulings:
        studies = list(dict.fromkeys(claim["study"] for claim in claims()))
        raise UserError(
            f"no claims of {study!r}{nearest(str(study), studies)}; there are some of "
            f"{', '.join(studies)}"
        )
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in rulings], indent=1))
        return
    counts = Counter(one.ruling.value for one in rulings)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    table = claims_table(rulings, f"{len(rulings)} claims: {summary}")
    if output is None:
        show(table)
        return
    try:
        output.write_text(table.markdown(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the claims to {output}: {error.strerror}") from error
    click.echo(output)
