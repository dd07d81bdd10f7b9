"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dlsys_bench.engines.registry import NAMES

RUNS = Path("reports/runs.db")

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
data_dir = click.option(
    "--data-dir",
    envvar="DLSYS_BENCH_DATA",
    help="Folder with the datasets' files, instead of the cache.",
)
seeds = click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Runs of each arm."
)


def training_options(command: F) -> F:
    """What every command that trains takes."""
    options = (
        click.option(
            "--engine",
            "engine_names",
            multiple=True,
            default=("numpy",),
            envvar="DLSYS_BENCH_ENGINE",
            show_default=True,
            help=f"{NAMES}; repeatable.",
        ),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option(
            "--dataset",
            help="mnist, fashion_mnist, digits, a .npz file, or package.module:callable. "
            "Default: the study's own where it is at hand, else digits.",
        ),
        data_dir,
        click.option(
            "--tier", type=click.Choice(["quick", "full"]), default="quick", show_default=True
        ),
        click.option(
            "--output",
            type=click.Path(dir_okay=False, path_type=Path),
            default=RUNS,
            show_default=True,
            help="Where runs are kept as they end: a store, or text if it is NAME.jsonl.",
        ),
        as_json,
    )
    for option in reversed(options):
        command = option(command)
    return command
