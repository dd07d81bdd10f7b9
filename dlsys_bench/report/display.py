"""Tables on the terminal, and a progress bar with the remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dlsys_bench.errors import UserError
from dlsys_bench.report.table import Table

WIDTH = 200


def show(table: Table) -> None:
    """Print a table, as wide as it needs where stdout is not a terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table.rich())


def show_or_write(table: Table, output: Path | None) -> None:
    """Print a table, or write it to a file as Markdown and print the file's name.

    Raises UserError if the file cannot be written.
    """
    if output is None:
        show(table)
        return
    try:
        output.write_text(table.markdown(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the table to {output}: {error.strerror}") from error
    click.echo(output)


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar while the context lasts, if stderr is a terminal.

    The context's value is called with a description and the number of steps to advance by.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, left:"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=True
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda description, steps: bar.update(task, description=description, advance=steps)
