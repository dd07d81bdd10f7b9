"""Dynamic loss scaling, with which gradients survive in formats of few bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require,
    require_choice,
    require_count,
    require_number,
)

SMALLEST, LARGEST = 2.0**-100, 2.0**100
"""The bounds of the scale. torch and Keras keep it in single precision, where its inverse, and its
products with the few numbers of a loss, have to be normal numbers too."""

LARGEST_GROWTH = 1e6
"""The limit of the growth, with which no scale becomes infinite before it is bounded."""

SMALLEST_GROWTH, LARGEST_BACKOFF = 1 + 2.0**-23, 1 - 2.0**-24
"""The neighbours of one in single precision. By a factor nearer to one, which is rounded to one, a
scale in single precision would never change; by each of these, every scale changes."""

LARGEST_INTERVAL = 2**31 - 1
"""The limit of the interval: engines count updates in 32 bits."""


@dataclass(frozen=True)
class LossScale(Record):
    """Multiply the loss by a scale before the backward pass, and divide its gradient by it.

    The gradient of the whole batch is divided before anything else is done with it: clipping,
    weight decay and the optimiser see the gradient of the loss itself. If an entry of it in any
    tensor is infinite or NaN, the update is skipped:

    - Parameters, moments and velocities, the number of updates by which Adam corrects its bias,
      weight decay and moving averages are as if the batch had not been there.
    - The moving statistics of batch norm have moved in the forward pass, in torch and in Keras, and
      stay as they are. The loss and the accuracy of the batch count in the epoch.
    - The batch counts as a step in the history and for limits on the steps.

    The scale is `initial` when a training begins. It is multiplied by `backoff` after each update
    that is skipped, and by `growth` after `interval` updates in a row that are not, but grows to at
    most 2**100. `torch.amp.GradScaler` has these options, by default 2**16, 2, 0.5 and 2000.
    Keras's `LossScaleOptimizer` starts from 2**15, and always doubles and halves.

    A gradient that is not finite under the smallest scale, 2**-100, is no overflow: a training
    whose scale falls below it ends in a `LossScaleError`, in the batch of that update or, in an
    engine that reads its results once an epoch, at the end of the epoch. torch and Keras would skip
    all further updates in silence.

    `schedule_counts` states what moves the learning-rate schedule: "updates" leaves out those that
    are skipped (Keras, whose optimiser counts its updates), "batches" does not (torch, where
    `scheduler.step()` is called after each batch).

    A power of two changes no bit of a gradient that neither overflows nor underflows, so that
    engines are judged in any precision. A loss that is not finite is no overflow: the training has
    diverged. Micikevicius et al. 2018, arXiv:1710.03740.
    """

    initial: float = 2.0**16
    growth: float = 2.0
    backoff: float = 0.5
    interval: int = 2000
    schedule_counts: Literal["updates", "batches"] = "updates"

    kind: ClassVar[str] = "loss_scale"
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"initial": 0.0}, "initial is 0.0"),
        ({"initial": 2.0**-101}, "initial is 3.9"),
        ({"initial": 2.0**101}, "initial is 2.5"),
        ({"growth": 1.0}, "growth is 1.0"),
        ({"growth": 1 + 2.0**-24}, "would never grow; expected at least 1 + 2**-23"),
        ({"growth": 2e6}, "growth is 2000000.0"),
        ({"growth": math.inf}, "growth is inf"),
        ({"backoff": 0.0}, "backoff is 0.0"),
        ({"backoff": 1.0}, "backoff is 1.0"),
        ({"backoff": 1 - 2.0**-25}, "would never fall; expected at most 1 - 2**-24"),
        ({"interval": 0}, "interval is 0"),
        ({"interval": 2**31}, "interval is 2147483648"),
        ({"schedule_counts": "steps"}, "schedule_counts is 'steps'"),
    )
    choices: ClassVar[Choices] = {"initial": (1024.0, 1000.0), "interval": (2,)}
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"schedule_counts": "updates"},
        "torch": {"schedule_counts": "batches"},
    }

    def __post_init__(self) -> None:
        require_number(self.kind, "initial", self.initial, SMALLEST, LARGEST)
        require_number(self.kind, "growth", self.growth, 1.0, LARGEST_GROWTH, open_low=True)
        require_number(self.kind, "backoff", self.backoff, 0, 1, open_low=True, open_high=True)
        require(
            self.growth >= SMALLEST_GROWTH,
            f"{self.kind}: growth is {self.growth!r}, by which a scale in single precision would "
            "never grow; expected at least 1 + 2**-23",
        )
        require(
            self.backoff <= LARGEST_BACKOFF,
            f"{self.kind}: backoff is {self.backoff!r}, by which a scale in single precision would "
            "never fall; expected at most 1 - 2**-24",
        )
        require_count(self.kind, "interval", self.interval)
        require_number(self.kind, "interval", self.interval, 1, LARGEST_INTERVAL)
        counts = ("updates", "batches")
        require_choice(self.kind, "schedule_counts", self.schedule_counts, counts)

    @property
    def needs(self) -> list[str]:
        """What an engine must have for this record, in the terms of `Engine.lacks`."""
        doubles = (self.growth, self.backoff) == (2.0, 0.5)
        return [self.kind, *([] if doubles else [f"{self.kind}:factors"])]
