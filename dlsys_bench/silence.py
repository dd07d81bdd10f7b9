"""The state of what is printed on stderr: remarks, and the bar of a progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SILENT: ContextVar[bool] = ContextVar("SILENT", default=False)
"""True while remarks and progress are not printed; see `silenced`."""

ABOVE_BAR: list[Callable[[str], None]] = []
"""A function for each bar that is shown. It prints a line above the bar, which would otherwise be
printed into it."""


@contextmanager
def silenced() -> Iterator[None]:
    """Print no remarks and no progress in this context. Results, warnings and errors are."""
    token = SILENT.set(True)
    try:
        yield
    finally:
        SILENT.reset(token)
