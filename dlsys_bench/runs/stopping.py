"""The state of early stopping while a run trains."""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Weights
from dlsys_bench.spec.stopping import EarlyStopping


class BestEpoch:
    """The best epoch so far by the metric of a record, with its weights if they may be restored."""

    def __init__(self, record: EarlyStopping) -> None:
        self.record = record
        self.value: float | None = None
        self.number = 0
        self.weights: Weights | None = None

    def exhausts(self, epoch: Epoch, engine: Engine, net: Any) -> bool:
        """Record an epoch that has ended, and return whether the training should end with it."""
        value = getattr(epoch, self.record.metric)
        if value is not None and self.record.improves(value, self.value):
            self.value, self.number = value, epoch.epoch
            self.weights = engine.weights(net) if self.record.restore_best else None
        return epoch.epoch - self.number >= self.record.patience
