"""Report stored runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dlsys_bench.cli.page import check_page
from dlsys_bench.cli.terminal import emit
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.options.command import receives
from dlsys_bench.options.table import RUNS
from dlsys_bench.report import page
from dlsys_bench.report.display import show
from dlsys_bench.report.html.page import Page, Section, write_page
from dlsys_bench.report.html.runs import run_sections
from dlsys_bench.report.html.stacks import stack_section
from dlsys_bench.report.tables import tables
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read_all
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class ReportOptions:
    """The arguments and the options of `report`."""

    runs: tuple[Path, ...]
    output: Path
    json: bool
    html: Path | None
    included: tuple[Path, ...]


@receives(ReportOptions)
def report_command(options: ReportOptions) -> None:
    """Print the tables of the runs, and write the report."""
    paths = options.runs or (RUNS,)
    check_page(options.html)
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
    if options.html is not None:
        _write_page(results, options.included, options.html)
        return
    try:
        written = page.write(results, options.output)
    except OSError as error:
        raise UserError(f"cannot write the report to {options.output}: {error.strerror}") from error
    for path in written:
        click.echo(path)


def _write_page(results: Sequence[Result], included: Sequence[Path], path: Path) -> None:
    """Write the page, which replaces report.md and its pictures."""
    names = dict.fromkeys(run.key.study for run in results)
    summary = (f"{count_of(len(results), 'run')} of {', '.join(names)}.",)
    with tempfile.TemporaryDirectory() as folder:
        sections = [
            *run_sections(results, Path(folder)),
            *_included_sections(included),
            stack_section(results),
        ]
        page = Page(
            "Stored runs", count_of(len(results), "run"), summary, sections, _newest(results)
        )
        click.echo(write_page(page, path))


def _included_sections(paths: Sequence[Path]) -> Sequence[Section]:
    """Return the sections about other files."""
    if not paths:
        return ()
    # Climbs take the extra `conformance`, which the report of runs does without.
    from dlsys_bench.report.html.included import included_sections

    return included_sections(paths)


def _newest(results: Sequence[Result]) -> Mapping[str, Any]:
    """The provenance of the newest run."""
    return max(results, key=lambda run: str(run.provenance.get("time", ""))).provenance
