"""The mistakes that a person can mend: one clear line each, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was wrong, where, and what is accepted. The command line prints it and exits with 2."""


class SpecError(UserError):
    """A layer, model or recipe that cannot be."""


class NotApplicableError(UserError):
    """An arm that cannot be run here, while others of its study can: it is left out of a group, and
    said."""


class BatchError(SpecError, NotApplicableError):
    """A batch that is larger than the data."""


class DataError(UserError):
    """Data that are missing, damaged or not what they should be."""


class EngineError(UserError):
    """An engine that is not installed, or is asked for what it cannot do."""


class OtherEngineError(EngineError, NotApplicableError):
    """An arm that another engine has to run."""


class StoreError(UserError):
    """Results that cannot be written or read."""


class ClusterError(UserError):
    """Workers or a scheduler that cannot be reached, or are gone."""


class DivergedError(UserError):
    """A loss that is no longer finite. Epoch and batch count from 1."""

    def __init__(self, epoch: int, batch: int, loss: float) -> None:
        super().__init__(
            f"the loss became {loss} in epoch {epoch}, batch {batch}: lower the learning rate, or look at the data"
        )
        self.epoch, self.batch, self.loss = epoch, batch, loss

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, int, float]]:
        # An exception is pickled by its message alone; a worker process has to hand over all three.
        return DivergedError, (self.epoch, self.batch, self.loss)


def nearest(name: str, choices: Iterable[str]) -> str:
    """' (did you mean "mnist"?)' for the choice closest to `name`, or nothing."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f' (did you mean "{found[0]}"?)' if found else ""
