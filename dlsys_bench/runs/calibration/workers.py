"""The processes that train the runs of a calibration: a pool on this machine, or a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from dlsys_bench.runs.calibration.job import Failure, Job
from dlsys_bench.runs.result import Result

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""The variables that set how many threads a process computes on: one, because one process on each
core already keeps them busy."""

ATTEMPTS = 2
"""How often a run is started if the worker that trains it dies, before it is reported as DIED."""


class Died(NamedTuple):
    """The end of a run whose worker process died in each of ATTEMPTS attempts."""


DIED = Died()

Ended = Result | Failure | Died
"""How a run ended."""


class WorkersLostError(Exception):
    """The workers can no longer be used, because their scheduler has ended or lost its connection.

    No further run ends; a run that was submitted has to be trained again.
    """

    def __init__(self) -> None:
        super().__init__("the scheduler of the workers no longer answers")


class Workers(Protocol):
    """Processes that train runs. Every method raises WorkersLostError if they cannot be used."""

    def slots(self) -> int:
        """Return how many runs are trained at the same time."""

    def submit(self, job: Job) -> None:
        """Train a run as soon as a worker is free."""

    def wait(self, seconds: float) -> None:
        """Wait until a run that was submitted ends, at most this long."""

    def collect(self) -> Iterator[tuple[Job, Ended]]:
        """Yield each run that has ended since the last call, without waiting."""

    def cancel(self) -> None:
        """Give up every run that has not ended."""
