"""Early stopping: when a run ends before its last epoch, and with which weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require_choice,
    require_count,
    require_number,
    require_switches,
)

MONITORED: Mapping[str, int] = {"validation_loss": -1, "validation_accuracy": 1}
"""The figures that may be monitored: 1 if higher is better, and -1 if lower is."""


@dataclass(frozen=True)
class EarlyStopping(Record):
    """End a run when a figure has not improved by more than `min_delta` for `patience` epochs.

    With `restore_best`, the network then has the weights of the best epoch, also where the recipe
    ends first, and the history ends with that epoch. The options and their meaning are those of
    `EarlyStopping` in Keras. A run stops; `Engine.fit` yields every epoch of the recipe, since it
    does not know the validation samples.
    """

    patience: int = 5
    min_delta: float = 0.0
    metric: Literal["validation_loss", "validation_accuracy"] = "validation_loss"
    restore_best: bool = True

    kind: ClassVar[str] = "early_stopping"
    choices: ClassVar[Choices] = {
        "patience": (1, 5),
        "min_delta": (0.0, 0.01),
        "metric": tuple(MONITORED),
        "restore_best": (True, False),
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"patience": 0}, "patience is 0; expected an integer of at least 1"),
        ({"min_delta": -0.1}, "min_delta is -0.1; expected a number in [0, inf)"),
        ({"metric": "test_loss"}, "expected one of validation_loss, validation_accuracy"),
        ({"restore_best": "yes"}, "restore_best is 'yes'; expected True or False"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "patience", self.patience)
        require_number(self.kind, "min_delta", self.min_delta, 0.0, inf, open_high=True)
        require_choice(self.kind, "metric", self.metric, tuple(MONITORED))
        require_switches(self, "restore_best")

    def improves(self, value: float, best: float | None) -> bool:
        """Return whether a value of the metric is better than the best so far by more than
        `min_delta`. A value that is not a number is not."""
        sign = MONITORED[self.metric]
        return sign * value > (-inf if best is None else sign * best + self.min_delta)
