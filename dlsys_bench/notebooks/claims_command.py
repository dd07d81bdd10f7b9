"""The implementation of `dlsys-bench claims`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings import claims_of, rule
from dlsys_bench.notebooks.rulings.tables import category_tables, published_table
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import show_or_write
from dlsys_bench.runs.store import read_all
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class ClaimsOptions:
    """The argument and the options of `claims`."""

    study: str | None
    runs: tuple[Path, ...]
    engines: tuple[str, ...]
    published: bool
    output: Path | None
    json: bool


@receives(ClaimsOptions)
def claims_command(options: ClaimsOptions) -> None:
    """Print or write the table of rulings, or of the published claims alone."""
    if options.published:
        _show_published(options)
        return
    runs = read_all(options.runs)
    rulings = rule(options.study, runs, options.engines)
    if not rulings:
        raise _no_claims(options.study)
    if options.json:
        click.echo(dumps([one.to_dict() for one in rulings], indent=1))
        return
    show_or_write(*category_tables(rulings), output=options.output)


def _show_published(options: ClaimsOptions) -> None:
    """Print or write the published claims."""
    chosen = claims_of(options.study)
    if not chosen:
        raise _no_claims(options.study)
    if options.json:
        click.echo(dumps(chosen, indent=1))
        return
    show_or_write(published_table(chosen), output=options.output)


def _no_claims(study: str | None) -> UserError:
    known = list(dict.fromkeys(claim["study"] for claim in claims()))
    return UserError(
        f"no claims of {study!r}{nearest(str(study), known)}; "
        "`dlsys-bench claims --published` lists all"
    )
