"""Reading of the losses of a benchmark, which shows whether its rounds contain the work.

An asynchronous framework returns from a step before the work is done; reading a loss waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from numbers import Number
from typing import NamedTuple

import numpy as np

from dlsys_bench.errors import UserError, type_of
from dlsys_bench.timing.arrays import to_numpy
from dlsys_bench.timing.validity import NotTrainingError

MAX_WAIT = 0.05
"""The largest fraction of the time of the rounds, and of reading, that reading may wait."""

MAX_CONVERSION_SECONDS = 1e-4
"""The longest time that the conversion of a loss takes that has been computed already."""

ALLOWANCE = 3
"""The first conversions of objects may take this many times as long as the next."""


class UnfinishedWorkError(NotTrainingError):
    """A benchmark whose rounds end before their work is done."""


class Losses(NamedTuple):
    """Losses as numbers, and the seconds for which reading them waited for their computation."""

    values: list[float]
    waited: float

    def wait_fraction(self, seconds: float) -> float:
        """Return the fraction of the waiting in the whole time, given the seconds of the rounds."""
        return self.waited / (self.waited + seconds) if self.waited else 0.0


def read_loss(loss: object) -> float:
    """Return the loss as a number. Raises UserError if it is not a single number."""
    try:
        value = to_numpy(loss)
        if value.size == 1:
            return float(value.item())
    except TypeError as error:
        raise UserError(
            f"step() returned {type_of(loss)}; it has to return the loss, a number"
        ) from error
    raise UserError(
        f"step() returned an array of shape {value.shape}; it has to return the loss, a number"
    )


def read_losses(losses: Sequence[object]) -> Losses:
    """Read losses that a device may still compute. Raises UserError.

    They are read twice: the second time, all are computed, so that it takes as long as their
    conversion alone. That, with an allowance, is subtracted from the first. Numbers of Python and
    NumPy have been computed.
    """
    pending = [loss for loss in losses if not isinstance(loss, Number | np.ndarray)]
    if not pending:
        return Losses([read_loss(loss) for loss in losses], 0.0)
    seconds = [_seconds_of_reading(pending) for _ in range(2)]
    conversion = min(ALLOWANCE * seconds[1], MAX_CONVERSION_SECONDS * len(pending))
    return Losses([read_loss(loss) for loss in losses], max(seconds[0] - conversion, 0.0))


def _seconds_of_reading(losses: Sequence[object]) -> float:
    started = time.perf_counter()
    for loss in losses:
        read_loss(loss)
    return time.perf_counter() - started


def unfinished_work(wait_fraction: float, *, synchronized: bool) -> UnfinishedWorkError:
    """Return the error of a benchmark in which reading the losses took this part of the time."""
    advice = (
        "synchronize() has to wait until the device has finished them"
        if synchronized
        else "pass synchronize=FUNCTION, a function that waits until the device has finished them"
    )
    return UnfinishedWorkError(
        f"the rounds ended before their steps: {wait_fraction:.0%} of the time passed while their "
        f"losses were read; {advice}"
    )
