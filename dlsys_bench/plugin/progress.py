"""The progress of gates and calibrations under pytest, which captures the output of tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from dlsys_bench.plugin.options import STDERR
from dlsys_bench.report.display import SILENCE, progress_lines

SECONDS_ON_A_TERMINAL = 10.0
"""The seconds between two lines on a terminal, where somebody is waiting."""


@contextmanager
def progress_of_test(
    request: pytest.FixtureRequest, total: int, unit: str
) -> Iterator[Callable[[str, int], None]]:
    """Print a line about a test now and then: CI services end jobs that are silent.

    The context's value is called with a description and the number of steps to advance by.
    """
    descriptor = request.config.stash.get(STDERR, None)
    if descriptor is None:
        yield lambda *_: None
        return
    seconds = SECONDS_ON_A_TERMINAL if os.isatty(descriptor) else SILENCE
    write = partial(_write, descriptor, request.node.nodeid)
    with progress_lines(total, unit, write, seconds) as advance:
        yield advance


def _write(descriptor: int, test: str, line: str) -> None:
    # The line of pytest that names the file of the test has not ended.
    os.write(descriptor, f"\n{test}: {line}\n".encode(errors="backslashreplace"))
