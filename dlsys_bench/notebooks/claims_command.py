"""The implementation of `dlsys-bench claims`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings import rule
from dlsys_bench.notebooks.rulings.tables import claims_table
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import show_or_write
from dlsys_bench.runs.store import read


@dataclass(frozen=True)
class ClaimsOptions:
    """The argument and the options of `claims`."""

    study: str | None
    runs: tuple[Path, ...]
    engine: str
    output: Path | None
    json: bool


@receives(ClaimsOptions)
def claims_command(options: ClaimsOptions) -> None:
    """Print or write the table of rulings."""
    runs = [run for path in options.runs for run in read(path)]
    rulings = rule(options.study, runs, options.engine)
    if not rulings:
        studies = list(dict.fromkeys(claim["study"] for claim in claims()))
        raise UserError(
            f"no claims of {options.study!r}{nearest(str(options.study), studies)}; "
            f"there are claims of {', '.join(studies)}"
        )
    if options.json:
        click.echo(json.dumps([one.to_dict() for one in rulings], indent=1))
        return
    counts = Counter(one.ruling.value for one in rulings)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    show_or_write(claims_table(rulings, f"{len(rulings)} claims: {summary}"), options.output)
