"""Remarks on the terminal."""

from __future__ import annotations

import click

from dlsys_bench.text import printable

LIMIT = 20_000
"""The number of characters of the longest remark."""


def say(text: str) -> None:
    """Print a remark on stderr, next to the results on stdout."""
    click.echo(printable(text, LIMIT), err=True)
