"""Whether remarks and progress are printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SILENT: ContextVar[bool] = ContextVar("SILENT", default=False)
"""True while remarks and progress are not printed; see `silenced`."""


@contextmanager
def silenced() -> Iterator[None]:
    """Print no remarks and no progress in this context. Results, warnings and errors are."""
    token = SILENT.set(True)
    try:
        yield
    finally:
        SILENT.reset(token)
