"""Capture standard output, of Python and of libraries that write to its file descriptor."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def standard_output() -> Iterator[list[str]]:
    """Yield a list that holds the lines that were printed, when the block has ended."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "printed"
        sys.stdout.flush()
        kept = os.dup(1)
        with (
            path.open("w+b") as file,
            os.fdopen(os.dup(file.fileno()), "w") as writer,
            contextlib.redirect_stdout(writer),
        ):
            os.dup2(file.fileno(), 1)
            try:
                yield lines
            finally:
                writer.flush()
                os.dup2(kept, 1)
                os.close(kept)
        lines += [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
