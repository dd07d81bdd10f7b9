"""Checks that a benchmark really trained: the time of a step that learns nothing is no result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import UserError, count_of

Arrays = Mapping[str, NDArray[np.floating]]


class NotTrainingError(AssertionError):
    """A benchmark whose training did not change the weights or reduce the loss."""


class LossNotFallingError(NotTrainingError):
    """A loss that did not fall in the steps so far; it may in more steps."""


def check_losses(losses: Sequence[float], window: int) -> None:
    """Check that every loss is finite, and that the mean of the last `window` is below the first's.

    Raises NotTrainingError if one is not finite, LossNotFallingError if the mean did not fall, and
    UserError if there are fewer than two losses.
    """
    if len(losses) < 2:
        found = count_of(len(losses), "loss", "losses")
        raise UserError(f"{found} cannot fall: a benchmark takes at least 2 steps")
    for number, loss in enumerate(losses, start=1):
        if not math.isfinite(loss):
            raise NotTrainingError(f"the loss of step {number} is {loss}")
    window = min(window, len(losses) // 2)
    first, last = float(np.mean(losses[:window])), float(np.mean(losses[-window:]))
    if not last < first:
        raise LossNotFallingError(
            f"the loss did not fall: the mean of the first {window} of {len(losses)} steps is "
            f"{first:.6g}, that of the last {last:.6g}"
        )


def check_weights(before: Arrays, after: Arrays) -> None:
    """Check that every tensor is finite and changed.

    Raises NotTrainingError if one is not, and UserError if the tensors have other names than
    before.
    """
    if other := sorted(before.keys() ^ after.keys()):
        raise UserError(f"weights() returned {', '.join(other)} only before or only after training")
    if invalid := [name for name, values in after.items() if not np.isfinite(values).all()]:
        raise NotTrainingError(f"not finite: {', '.join(invalid)}")
    equal = [name for name, values in after.items() if np.array_equal(values, before[name])]
    if equal:
        raise NotTrainingError(f"these did not change: {', '.join(equal)}")
