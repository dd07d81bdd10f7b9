"""Remarks on the terminal."""

from __future__ import annotations

import click


def say(line: str) -> None:
    """Print a remark on stderr, next to the results on stdout."""
    click.echo(line, err=True)
