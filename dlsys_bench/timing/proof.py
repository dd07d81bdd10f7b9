"""That something trained: a benchmark of what does not train says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError

Arrays = Mapping[str, NDArray[np.floating]]


class NotTrainingError(AssertionError):
    """A benchmark in which nothing was learned."""


class NotFallingError(NotTrainingError):
    """A loss that has not fallen, yet."""


def check_losses(losses: Sequence[float], window: int) -> None:
    """Raise unless every loss is finite and the mean of the last `window` is below that of the
    first."""
    if len(losses) < 2:
        raise UserError(f"{len(losses)} losses cannot fall: a benchmark takes 2 steps, at least")
    for number, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise NotTrainingError(f"the loss of step {number} is {loss}")
    window = min(window, len(losses) // 2)
    first, last = float(np.mean(losses[:window])), float(np.mean(losses[-window:]))
    if not last < first:
        raise NotFallingError(
            f"the loss did not fall: {first:.6g} in the mean of the first {window} of {len(losses)} steps, {last:.6g} "
            "in that of the last"
        )


def check_moved(before: Arrays, after: Arrays) -> None:
    """Raise unless every tensor is finite and every one moved."""
    if lost := [name for name, values in after.items() if not np.isfinite(values).all()]:
        raise NotTrainingError(f"not finite: {', '.join(lost)}")
    if still := [name for name, values in after.items() if np.array_equal(values, before[name])]:
        raise NotTrainingError(f"these did not move: {', '.join(still)}")
