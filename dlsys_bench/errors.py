"""The errors that a user can correct. Their message is one line, shown without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The base of these errors. The message says what is wrong, where, and what is accepted.

    The command line prints the message and exits with code 2.
    """


class SpecError(UserError):
    """A record (layer, model, optimiser, recipe, ...) with invalid options."""


class NotApplicableError(UserError):
    """An arm that cannot be run here, although other arms of its study can.

    A command on several arms skips it and reports that.
    """


class BatchError(SpecError, NotApplicableError):
    """A batch that is larger than the data, or smaller than a layer can train on."""


class DataError(UserError):
    """Data that are missing, damaged or otherwise invalid."""


class MissingDatasetError(DataError, NotApplicableError):
    """A dataset that is not found, and that no other one replaces."""


class EngineError(UserError):
    """An engine that is not installed, or that does not support what it was asked for."""


class TrainingError(EngineError):
    """An error in a training with an engine that is not part of this package. Its cause is the
    error itself."""


class OtherEngineError(EngineError, NotApplicableError):
    """An arm that needs a different engine."""


class StoreError(UserError):
    """Results that cannot be written or read."""


class StoreWarning(UserWarning):
    """Contents of a file of results that were set aside, or that contradict each other."""


class ClusterError(UserError):
    """A scheduler or workers that cannot be reached, or were lost."""


class ClusterWarning(UserWarning):
    """A cluster that anybody who can connect to it can use."""


class MissingExtraError(UserError, ImportError):
    """A part of the package that is not installed. It is an ImportError too, so that
    `pytest.importorskip` and `except ImportError` work."""


class DivergedError(UserError):
    """A loss that became infinite or NaN. `epoch` and `batch` count from 1."""

    text = (
        "the loss became {loss} in epoch {epoch}, batch {batch}: "
        "lower the learning rate, or look at the data"
    )

    def __init__(self, epoch: int, batch: int, loss: float) -> None:
        super().__init__(self.text.format(epoch=epoch, batch=batch, loss=loss))
        self.epoch, self.batch, self.loss = epoch, batch, loss

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, int, float]]:
        # By default an exception is pickled with its message as the only argument. This one takes
        # three, and must survive the way back from a worker process.
        return type(self), (self.epoch, self.batch, self.loss)


class LossScaleError(DivergedError):
    """A loss scale that fell below the smallest one, because no update could be made. The loss is
    finite, but not its gradient."""

    text = (
        "the loss scale fell below its smallest value in epoch {epoch}, batch {batch}, where the "
        "loss is {loss:g}: its gradient is infinite or NaN under every scale; look at the layers, "
        "the loss and the data"
    )


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun, such as "1 run" or "1,200 runs"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def type_of(value: object) -> str:
    """Return the type of a value with its article, such as "a function" or "an int"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return ' (did you mean "mnist"?)' for the choice closest to `name`, '' if none is close."""
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f' (did you mean "{found[0]}"?)' if found else ""
