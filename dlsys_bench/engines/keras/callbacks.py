# mypy: disallow-subclassing-any=False
"""The callbacks that follow an epoch of keras's `fit`, and the metrics that they read. This module
imports keras, so it is imported only after an engine has started its backend."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from dlsys_bench.engines.epochs import EpochRun
from dlsys_bench.engines.keras.network import KerasNetwork
from dlsys_bench.errors import DivergedError, LossScaleError

DATA_LOSS = "data_loss"
"""The name of the metric of the loss without the penalty of a coupled weight decay."""


class DataLoss(keras.metrics.Mean):
    """The mean loss of the data so far, as Keras computes that of its losses."""

    def __init__(self, loss: Any, dtype: str) -> None:
        super().__init__(DATA_LOSS, dtype)
        self.loss = loss

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count the loss of a batch by its samples."""
        self.add(self.loss(y_true, y_pred), keras.ops.shape(y_pred)[0])

    def add(self, loss: Any, samples: Any) -> None:
        """Count the loss of a batch."""
        super().update_state(loss, samples)


class LossRecord(DataLoss):
    """The mean loss of the data so far, and the loss of each step of an epoch, on the device."""

    def __init__(self, loss: Any, dtype: str, steps: int) -> None:
        super().__init__(loss, dtype)
        self.step = self.add_variable((), "zeros", "int32", name="step")
        self.losses = self.add_variable((steps,), "zeros", dtype, name="losses")

    def reset_state(self) -> None:
        """Forget the steps of the last epoch."""
        super().reset_state()
        self.step.assign(0)

    def add(self, loss: Any, samples: Any) -> None:
        """Count and keep the loss of a batch."""
        super().add(loss, samples)
        place = keras.ops.reshape(self.step, (1, 1))
        self.losses.assign(keras.ops.scatter_update(self.losses, place, loss[None]))
        self.step.assign_add(1)


class EpochCallback(keras.callbacks.Callback):
    """Follows one epoch of Keras's `fit`: supplies the masks of each step in parity mode, ends the
    epoch with the last batch of the plan or with a loss that is not finite, and records the running
    figures."""

    # Keras then calls `on_train_batch_end` in a thread, as it does for its own progress bar, where
    # reading the loss from the device delays no step. One batch may end before the one before it.
    async_safe = True

    def __init__(self, net: KerasNetwork, epoch: EpochRun) -> None:
        super().__init__()
        self.net, self.epoch = net, epoch
        self.means: dict[int, float] = {}
        self.trained: dict[str, Any] = {}
        # Keras keeps learning rates in single precision.
        epoch.rates = [float(np.float32(rate)) for rate in epoch.rates]

    def _stop(self) -> None:
        # Not self.model: on JAX that property moves the weights back into the model, in the middle
        # of a step.
        self.net.network.stop_training = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock when Keras has prepared the data and the functions."""
        self.epoch.start_clock()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the masks; Keras looks at `stop_training` after the batch that now begins."""
        if self.epoch.plan.parity and self.net.dropouts:
            self.net.set_masks(self.epoch.masks(batch))
        if self.epoch.recipe.loss_scale is not None and self.epoch.recipe.schedule is not None:
            # Between two steps, `self.model` has the state of the optimiser, whose updates move the
            # schedule.
            made = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
            self.epoch.rates[batch] = float(np.float32(self.epoch.recipe.rate(made)))
        cut_short = sum(self.epoch.sizes) < self.epoch.samples
        if cut_short and batch + 1 == len(self.epoch.sizes):
            self._stop()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record the mean loss up to this batch, which is not finite from the first batch on whose
        loss is not."""
        self.means[batch] = float(_loss(logs))
        if not math.isfinite(self.means[batch]):
            self._stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the figures, all batches having ended. Raises DivergedError, also for a loss scale
        that fell in the epoch."""
        for batch, value in sorted(self._figures().items()):
            if not math.isfinite(value):
                raise DivergedError(self.epoch.number, batch + 1, value)
        losses = self._losses()
        if self.epoch.recipe.loss_scale is not None:
            optimizer = self.model.optimizer
            scale = keras.ops.convert_to_numpy(keras.ops.copy(optimizer.dynamic_scale))
            if np.isnan(scale):
                updates = keras.ops.convert_to_numpy(keras.ops.copy(optimizer.updates))
                batch = int(updates) - self.epoch.first
                raise LossScaleError(self.epoch.number, batch, losses[batch - 1])
        mean = _loss(logs) if self.epoch.weights is None else self.epoch.mean_loss(losses).item()
        self.ended = self.epoch.end_with(mean, logs.get("accuracy"), losses)
        if self.epoch.recipe.average is not None:
            # After this, Keras puts the averages into the network.
            tensors = self.net.tensors
            self.trained = {name: keras.ops.copy(tensors[name]) for name in self.net.trained}

    def _figures(self) -> dict[int, float]:
        """Return the figures that show in which batch a loss was not finite."""
        return self.means

    def _losses(self) -> list[float]:
        """Return the loss of each batch, from the means over all batches up to it."""
        sizes = self.epoch.sizes
        sums = np.array([self.means[batch] for batch in range(len(sizes))]) * np.cumsum(sizes)
        losses: list[float] = (np.diff(sums, prepend=0.0) / sizes).tolist()
        return losses


class ExecutionCallback(EpochCallback):
    """Follows an epoch of which Keras executes several steps at a time. The network records their
    losses. A loss that is not finite is detected at the end of an execution."""

    def __init__(self, step_losses: LossRecord, net: KerasNetwork, epoch: EpochRun) -> None:
        super().__init__(net, epoch)
        self.step_losses = step_losses

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Do nothing: there are no masks, and the data end with the last batch of the plan."""

    def _figures(self) -> dict[int, float]:
        return dict(enumerate(self._losses()))

    def _losses(self) -> list[float]:
        # A copy, because numpy 2 warns if it reads a variable directly.
        losses = keras.ops.convert_to_numpy(keras.ops.copy(self.step_losses.losses))
        return [float(loss) for loss in losses[: len(self.epoch.sizes)]]


def _loss(logs: Any) -> Any:
    """Return the mean loss of the data."""
    return logs.get(DATA_LOSS, logs["loss"])
