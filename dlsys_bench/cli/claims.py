"""Rule on published claims."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.command import receives
from dlsys_bench.report.claims import category_tables, published_table
from dlsys_bench.report.display import show_or_write
from dlsys_bench.runs.store import read_all
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.claim_set import ClaimSet, claim_sets


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
    sets = [one for one in claim_sets(options.study) if one.claims_of(options.study)]
    if not sets:
        raise _no_claims(options.study)
    if options.published:
        _show_published(options, sets)
        return
    runs = read_all(options.runs)
    rulings = {one.title: one.rulings_on(options.study, runs, options.engines) for one in sets}
    if options.json:
        found = [ruling.to_dict() for some in rulings.values() for ruling in some]
        click.echo(dumps(found, indent=1))
        return
    tables = [table for each in rulings.items() for table in category_tables(*each)]
    show_or_write(*tables, output=options.output)


def _show_published(options: ClaimsOptions, sets: list[ClaimSet]) -> None:
    """Print or write the published claims."""
    chosen = {one.title: one.claims_of(options.study) for one in sets}
    if options.json:
        click.echo(dumps([claim for some in chosen.values() for claim in some], indent=1))
        return
    show_or_write(*(published_table(*each) for each in chosen.items()), output=options.output)


def _no_claims(study: str | None) -> UserError:
    known = [one.name for one in studies().values() if one.claims]
    return UserError(
        f"no claims of {study!r}{nearest(str(study), known)}; "
        "`dlsys-bench claims --published` lists all"
    )
