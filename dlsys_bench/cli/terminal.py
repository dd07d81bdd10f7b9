"""Results on stdout, and remarks on stderr."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import click

from dlsys_bench.silence import ABOVE_BAR, SILENT
from dlsys_bench.text import printable

LIMIT = 20_000
"""The number of characters of the longest remark."""

RESERVED: list[TextIO] = []
"""The stream to which `emit` writes while stdout is reserved for it."""


def say(text: str) -> None:
    """Print a remark on stderr, next to the results on stdout, unless --quiet is given."""
    if not SILENT.get():
        complain(text)


def complain(text: str) -> None:
    """Print a warning or an error on stderr, above the bar of a progress."""
    line = printable(text, LIMIT)
    if ABOVE_BAR:
        ABOVE_BAR[-1](line)
    else:
        click.echo(line, err=True)


def emit(text: str) -> None:
    """Print a result on stdout, also while stdout is reserved for results."""
    click.echo(text, file=RESERVED[-1] if RESERVED else None)


@contextmanager
def stdout_reserved() -> Iterator[None]:
    """Send everything but what `emit` prints to stderr: programs read stdout.

    A training may print anything there. The output of C libraries and of child processes is
    redirected as well, because file descriptor 1 refers to stderr in this context.
    """
    before = sys.stdout
    before.flush()
    saved = _redirect_descriptor()
    own = saved is not None and _descriptor_of(before) == 1
    stream = os.fdopen(os.dup(saved), "w", encoding="utf-8") if own and saved else before
    RESERVED.append(stream)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = before
        RESERVED.remove(stream)
        if own:
            stream.close()
        if saved is not None:
            # A C library keeps its output until it is flushed, by then into what 1 refers to.
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).fflush(None)
            os.dup2(saved, 1)
            os.close(saved)


def _redirect_descriptor() -> int | None:
    """Make descriptor 1 refer to stderr; return a copy of what it was, None if one is closed."""
    try:
        saved = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved


def _descriptor_of(stream: TextIO) -> int | None:
    """Return the descriptor that a stream writes to; None for a stream in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None
