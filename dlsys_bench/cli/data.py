"""Download and verify the files of the datasets."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import click

from dlsys_bench.cli.terminal import emit
from dlsys_bench.data import datasets, fetch, verify
from dlsys_bench.data.files import known
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import progress


@dataclass(frozen=True)
class FetchOptions:
    """The arguments of `data fetch`."""

    names: tuple[str, ...]


@receives(FetchOptions)
def fetch_command(options: FetchOptions) -> None:
    """Download the files and print their paths."""
    names = list(dict.fromkeys(options.names or datasets()))
    found = {}
    with progress(sum(len(known(name).files) for name in names), "files") as advance:
        for name in names:
            found[name] = fetch(name, on_file=lambda report: advance(report.file, 1))
    for name, paths in found.items():
        for path in paths:
            click.echo(f"{name}: {path}")


@dataclass(frozen=True)
class VerifyOptions:
    """The arguments and the options of `data verify`."""

    names: tuple[str, ...]
    data_dir: str | None
    json: bool


@receives(VerifyOptions)
def verify_command(options: VerifyOptions) -> None:
    """Print the state of each file."""
    reports = {name: verify(name, options.data_dir) for name in options.names or datasets()}
    if options.json:
        found = {name: [asdict(report) for report in files] for name, files in reports.items()}
        emit(json.dumps(found, indent=1, default=str))
    else:
        for name, files in reports.items():
            for report in files:
                what = f": {report.path} is {report.description}" if report.description else ""
                click.echo(f"{name}: {report.file}: {report.state}{what}")
    if any(report.state != "ok" for files in reports.values() for report in files):
        sys.exit(2)
