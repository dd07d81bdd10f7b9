"""The state of a dynamic loss scale, for engines that keep it on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlsys_bench.errors import LossScaleError
from dlsys_bench.spec.loss_scale import LARGEST, SMALLEST, LossScale

if TYPE_CHECKING:
    from dlsys_bench.engines.epochs import EpochRun


class LossScaler:
    """The loss scale of a training: the current `scale`, the number of updates in a row that were
    not skipped (`good`), that of all that were (`skipped`), and that of all updates until the scale
    fell below the smallest one (`fell`), 0 if it did not."""

    def __init__(self, record: LossScale) -> None:
        self.record, self.scale = record, record.initial
        self.good, self.skipped, self.updates, self.fell = 0, 0, 0, 0

    @property
    def uncounted(self) -> int:
        """The number of skipped updates that the learning-rate schedule leaves out."""
        return self.skipped if self.record.schedule_counts == "updates" else 0

    def update(self, finite: bool) -> None:
        """Change the scale after a gradient, which was finite or not."""
        record, self.updates = self.record, self.updates + 1
        if not finite:
            self.scale, self.good = self.scale * record.backoff, 0
            self.skipped += 1
            if self.scale < SMALLEST and not self.fell:
                self.fell = self.updates
            return
        self.good += 1
        if self.good == record.interval:
            self.scale, self.good = min(self.scale * record.growth, LARGEST), 0

    def error(self, epoch: EpochRun) -> LossScaleError | None:
        """Return the error of a scale that fell in an epoch, whose losses are recorded."""
        if not self.fell:
            return None
        batch = self.fell - epoch.first
        return LossScaleError(epoch.number, batch, float(np.ravel(epoch.losses[batch - 1])[0]))

    def require_scale(self, epoch: EpochRun) -> None:
        """Raise LossScaleError if the scale fell in an epoch, whose losses are recorded."""
        if error := self.error(epoch):
            raise error
