"""The state of a dynamic loss scale, for engines that keep it on the host."""

from __future__ import annotations

from dlsys_bench.spec.loss_scale import LARGEST, LossScale


class LossScaler:
    """The loss scale of a training: the current `scale`, the number of updates in a row that were
    not skipped (`good`), and that of all that were (`skipped`)."""

    def __init__(self, record: LossScale) -> None:
        self.record, self.scale = record, record.initial
        self.good, self.skipped = 0, 0

    @property
    def uncounted(self) -> int:
        """The number of skipped updates that the learning-rate schedule leaves out."""
        return self.skipped if self.record.schedule_counts == "updates" else 0

    def update(self, finite: bool) -> None:
        """Change the scale after a gradient, which was finite or not."""
        record = self.record
        if not finite:
            self.scale, self.good = self.scale * record.backoff, 0
            self.skipped += 1
            return
        self.good += 1
        if self.good == record.interval:
            grown = self.scale * record.growth
            self.scale, self.good = grown if grown <= LARGEST else self.scale, 0
