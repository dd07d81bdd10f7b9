"""Tables on the terminal, and a progress bar with the remaining time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from dlsys_bench.errors import UserError
from dlsys_bench.report.table import Table, coloured
from dlsys_bench.runs.result import Result
from dlsys_bench.silence import ABOVE_BAR, SILENT
from dlsys_bench.text import one_line

WIDTH = 200
"""The columns of tables that are not printed on a terminal."""

PAGE = 80
"""The columns of tables that people read in the log of a CI service, or paste elsewhere."""

SILENCE = 60.0
"""The seconds between two lines of progress where stderr is not a terminal."""

SPEED_SECONDS = 86_400.0
"""The time over which the bar estimates its speed."""


def columns() -> int:
    """Return the columns of remarks: those of the terminal, elsewhere of COLUMNS, or PAGE."""
    console = Console(stderr=True)
    return console.width if console.is_terminal or "COLUMNS" in os.environ else PAGE


def show(table: Table, width: int = WIDTH) -> None:
    """Print a table in the width of the terminal; elsewhere in `width`, or in that of COLUMNS.

    A table whose words and figures do not fit is printed in another layout.
    """
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=width)
    # Not as the title of the box, in whose width it would be wrapped.
    console.print(Text(one_line(table.title), style="bold"))
    if table.narrowest <= console.width:
        console.print(table.rich(console.width))
        return
    for line in table.lines(console.width):
        console.print(coloured(line), soft_wrap=True)


def show_or_write(*tables: Table, output: Path | None, width: int = WIDTH) -> None:
    """Print tables, or write them to a file as Markdown and print the file's name.

    Raises UserError if the file cannot be written.
    """
    if output is None:
        for table in tables:
            show(table, width)
        return
    try:
        output.write_text("\n".join(each.markdown() for each in tables), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {output}: {error.strerror}") from error
    click.echo(output)


class _Bar(Progress):
    """A bar with the latest description below it, so that a long one leaves the bar its place."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar, and the description in the width of the console."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.description, no_wrap=True, overflow="ellipsis")


class _Lines:
    """Progress in plain lines: CI services end jobs that are silent."""

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit = total, unit
        self.done, self.description = 0, ""
        self.started, self.ended = time.monotonic(), threading.Event()

    def advance(self, description: str, steps: int) -> None:
        """Keep the latest description, and count the steps."""
        self.description, self.done = description, self.done + steps

    def line(self) -> str:
        """The number of steps, the time left, and the latest description."""
        elapsed, left = time.monotonic() - self.started, ""
        if self.done:
            seconds = elapsed / self.done * (self.total - self.done)
            left = f", about {duration(seconds)} left"
        text = f"{self.done} of {self.total} {self.unit} after {duration(elapsed)}{left}"
        return f"{text}; {one_line(self.description)}" if self.description else text

    def write_until_ended(self, write: Callable[[str], None], seconds: float) -> None:
        """Write a line each time that `seconds` have passed."""
        while not self.ended.wait(seconds):
            write(self.line())


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "12 min" or "2.5 h"."""
    for limit, size, digits, unit in ((100, 1, 0, "s"), (6000, 60, 0, "min"), (inf, 3600, 1, "h")):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    raise AssertionError("the last limit is infinite")


@contextmanager
def progress_lines(
    total: int, unit: str, write: Callable[[str], None], seconds: float
) -> Iterator[Callable[[str, int], None]]:
    """Write the progress as a line each time that `seconds` have passed, with the time left.

    The context's value is called with a description and the number of steps to advance by.
    """
    lines = _Lines(total, unit)
    printer = threading.Thread(target=lines.write_until_ended, args=(write, seconds), daemon=True)
    printer.start()
    try:
        yield lines.advance
    finally:
        lines.ended.set()
        printer.join()


@contextmanager
def progress(total: int, unit: str = "steps") -> Iterator[Callable[[str, int], None]]:
    """Show the progress on stderr while the context lasts, with the time left.

    A terminal shows a bar. Anything else receives a plain line every SILENCE seconds. The context's
    value is called with a description and the number of steps to advance by.
    """
    if SILENT.get():
        yield lambda description, steps: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        with progress_lines(total, unit, partial(click.echo, err=True), SILENCE) as advance:
            yield advance
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}, left:"),
        TimeRemainingColumn(),
    )
    # A run may take much longer than the half minute that the estimate covers by default.
    bar = _Bar(*columns, console=console, transient=True, speed_estimate_period=SPEED_SECONDS)
    with bar:
        task = bar.add_task("", total=total)

        def print_above(line: str) -> None:
            console.print(Text(line), soft_wrap=True)

        ABOVE_BAR.append(print_above)
        try:
            yield lambda description, steps: bar.update(
                task, description=one_line(description), advance=steps
            )
        finally:
            ABOVE_BAR.remove(print_above)


def latest_figures(result: Result, most: int = 3) -> str:
    """The first figures of a run, or those of its last epoch; how it ended if it diverged."""
    if result.status != "finished":
        return result.status
    numbers = {k: v for k, v in result.figures.items() if isinstance(v, int | float)}
    last = result.last
    if last is not None and last.test_accuracy is not None:
        numbers = {"test accuracy": last.test_accuracy} | numbers
    return ", ".join(f"{name} {value:.4g}" for name, value in list(numbers.items())[:most])
