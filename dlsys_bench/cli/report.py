"""Report stored runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
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
from dlsys_bench.report.display import progress, show
from dlsys_bench.report.html.page import Page, Section, write_page
from dlsys_bench.report.html.runs import run_sections
from dlsys_bench.report.html.stacks import stack_section
from dlsys_bench.report.tables import tables
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read_all
from dlsys_bench.strict_json import dumps

OnStudy = Callable[[str], None]
"""Gets the name of each study whose part of the report is made."""


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
    names = list(dict.fromkeys(run.key.study for run in results))
    with progress(len(names), "studies") as advance:

        def on_study(name: str) -> None:
            advance(name, 1)

        if options.html is None:
            written = _write_report(results, options.output, on_study)
        else:
            written = [_write_page(results, options, on_study)]
    for path in written:
        click.echo(path)


def _write_report(results: Sequence[Result], folder: Path, on_study: OnStudy) -> list[Path]:
    """Write report.md and its pictures."""
    try:
        return page.write(results, folder, on_study)
    except OSError as error:
        raise UserError(f"cannot write the report to {folder}: {error.strerror}") from error


def _write_page(results: Sequence[Result], options: ReportOptions, on_study: OnStudy) -> Path:
    """Write the page, which replaces report.md and its pictures."""
    assert options.html is not None
    names = dict.fromkeys(run.key.study for run in results)
    runs = count_of(len(results), "run")
    with tempfile.TemporaryDirectory() as folder:
        sections = [
            *run_sections(results, Path(folder), on_study),
            *_included_sections(options.included),
            stack_section(results),
        ]
        summary = (f"{runs} of {', '.join(names)}.",)
        made = Page("Stored runs", runs, summary, sections, _newest(results))
        return write_page(made, options.html)


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
