"""What a person sees: tables, remarks beside them, a bar with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dlsys_bench.report.tables import Table


def show(table: Table) -> None:
    """A table on the terminal, as wide as it needs where nobody looks."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table.rich())


def say(line: str) -> None:
    """A remark beside the results, on stderr."""
    click.echo(line, err=True)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar with the time left, where somebody looks. The context's value is called with what runs
    and its steps."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, left:"),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda what, steps: bar.update(task, description=what, advance=steps)
