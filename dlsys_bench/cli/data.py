"""Download and verify the files of the datasets."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

import click

from dlsys_bench.cli.terminal import emit
from dlsys_bench.data import datasets, fetch, verify
from dlsys_bench.options.command import receives


@dataclass(frozen=True)
class FetchOptions:
    """The arguments of `data fetch`."""

    names: tuple[str, ...]


@receives(FetchOptions)
def fetch_command(options: FetchOptions) -> None:
    """Download the files and print their paths."""
    for name in options.names or datasets():
        for path in fetch(name):
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
