"""Trainings in which each sample moves one row of a kernel.

Sample i is the unit vector i, so row i of the only kernel moves by the gradient of sample i alone.
All samples have the same target and all rows the same start, so what a row becomes depends only on
the updates in which its sample is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.finding import Fault
from dlsys_bench.conformance.oracle.losses import loss_value
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.data import Samples
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

KERNEL = "dense_1.kernel"
MOST_USES = 4
"""The number of times that a sample may be used in one update and is still recognised."""


@dataclass(frozen=True)
class RowTraining:
    """A native training of `count` samples by `size`, in which every sample has its own row."""

    count: int
    size: int
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        """The number of updates in an epoch."""
        return -(-self.count // self.size)

    @property
    def sizes(self) -> Array:
        """The size of each batch of an epoch."""
        sizes = np.full(self.steps, self.size)
        sizes[-1] = self.count - self.size * (self.steps - 1)
        return sizes

    def training(self, recipe: Recipe, plan: Plan) -> TrainingCase:
        """Return the training, which starts from equal rows."""
        loss = recipe.loss
        start = np.repeat(start_row(loss), self.count, axis=0)
        model = Model("order", (self.count,), (Dense(start.shape[1], use_bias=False),))
        samples = Samples(np.eye(self.count), common_targets(loss, self.count))
        return TrainingCase(model, {KERNEL: start}, samples, recipe, plan)


def start_row(loss: Loss) -> Array:
    """Return a row (1, outputs) of a kernel at which the loss of its sample has a slope."""
    outputs = 2 if loss.targets == "labels" else 1
    # The losses of signs have a kink at zero.
    return np.full((1, outputs), -1e-3 if loss.targets == "signs" else 0.0)


def common_targets(loss: Loss, count: int) -> NDArray[Any]:
    """Return equal targets for samples."""
    if loss.targets == "labels":
        return np.zeros(count, int)
    return np.ones(count, int) if loss.targets == "signs" else np.ones((count, 1))


def row_gradients(loss: Loss, rows: Array) -> Array:
    """Return the gradient of the loss of each row's sample, of which the row is the output."""
    step, found = 1e-30, np.empty(rows.shape)
    for column in range(rows.shape[1]):
        outputs = rows[:, None].astype(complex)
        outputs[:, 0, column] += 1j * step
        found[:, column] = loss_value(loss, outputs, common_targets(loss, 1)).imag / step
    return found


def diagnose_uses(unused: int, more: int, job: RowTraining) -> tuple[Fault, str | None]:
    """Return the fault, and the mistake that the counts suggest of the samples that an epoch does
    not use, and of those that it uses more than once or in a wrong batch."""
    last = job.sizes[-1]
    if unused == last < job.size and not more:
        diagnosis = "the smaller last batch of an epoch is dropped"
        return Fault.PARTIAL_BATCH, diagnosis
    if not unused and more and last < job.size:
        return Fault.PARTIAL_BATCH, "the smaller last batch of an epoch is filled up"
    if unused == job.size and not more:
        return Fault.SKIPPED_BATCH, "a batch of the epoch makes no update"
    if unused and more:
        return Fault.WRONG_DISTRIBUTION, "samples are drawn with replacement"
    return Fault.WRONG_VALUE, None
