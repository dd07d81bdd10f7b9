"""The files of the datasets: bring them, check them."""

from __future__ import annotations

import json
import sys

import click

from dlsys_bench.cli.options import as_json, data_dir


@click.group("data")
def data_group() -> None:
    """Bring the datasets, or check them."""


@data_group.command()
@click.argument("names", nargs=-1)
def fetch(names: tuple[str, ...]) -> None:
    """Download NAMES (default: all) from public mirrors into the cache, checked by SHA-256."""
    from dlsys_bench.data import datasets
    from dlsys_bench.data import fetch as fetch_files

    for name in names or datasets():
        for path in fetch_files(name):
            click.echo(f"{name}: {path}")


@data_group.command()
@click.argument("names", nargs=-1)
@data_dir
@as_json
def verify(names: tuple[str, ...], data_dir: str | None, as_json: bool) -> None:
    """Compare the files of NAMES (default: all) with their SHA-256. Exit code 2 if one is wrong or
    missing."""
    from dataclasses import asdict

    from dlsys_bench.data import datasets
    from dlsys_bench.data import verify as verify_files

    reports = {name: verify_files(name, data_dir) for name in names or datasets()}
    if as_json:
        click.echo(
            json.dumps(
                {k: [asdict(report) for report in v] for k, v in reports.items()},
                indent=1,
                default=str,
            )
        )
    else:
        for name, files in reports.items():
            for report in files:
                click.echo(f"{name}: {report.file}: {report.state}")
    if any(report.state != "ok" for files in reports.values() for report in files):
        sys.exit(2)
