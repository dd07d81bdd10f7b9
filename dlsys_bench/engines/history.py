"""The records of a training: an epoch of one network or of many replicas, and their histories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import sub
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.spec.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    The running figures are means over the batches of the epoch in training mode, weighted by the
    size of each batch, as Keras prints them; the others are evaluated when the epoch has ended.
    `steps` counts the updates since the start of the training, and `seconds` is the time of the
    training alone. Where the learning rate or the batch size changes from step to step, `by_step`
    holds the learning rate, the batch size and the loss of every update of the epoch.
    """

    epoch: int
    steps: int
    seconds: float
    running_loss: float
    running_accuracy: float | None = None
    train_loss: float | None = None
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    by_step: dict[str, list[float]] | None = None


History = list[Epoch]


@dataclass(frozen=True, eq=False)
class ReplicaEpoch(Sequence[Epoch | None]):
    """One epoch of R replicas: the Epoch of each, or None for a replica that has failed.

    The figures are kept as arrays, losses and accuracies (R,), and an Epoch is created when it is
    asked for: thousands of networks have millions of epochs. `by_step` holds the losses (R,) of
    each update where the recipes vary the learning rate or the batch size, and `uncounted` how many
    skipped updates before each the schedule leaves out.
    """

    epoch: int
    steps: int
    seconds: float
    losses: NDArray[Any]
    accuracies: NDArray[Any] | None
    recipes: Sequence[Recipe]
    sizes: Sequence[int]
    by_step: Sequence[Any]
    failed: frozenset[int]
    uncounted: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.recipes)

    @overload
    def __getitem__(self, replica: int) -> Epoch | None: ...
    @overload
    def __getitem__(self, replica: slice) -> Sequence[Epoch | None]: ...
    def __getitem__(self, replica: int | slice) -> Epoch | Sequence[Epoch | None] | None:
        if isinstance(replica, slice):
            return [self._of(number) for number in range(len(self))[replica]]
        return self._of(range(len(self))[replica])

    def _of(self, replica: int) -> Epoch | None:
        if replica in self.failed:
            return None
        accuracy = None if self.accuracies is None else float(self.accuracies[replica])
        loss, by_step = float(self.losses[replica]), None
        if self.recipes[replica].moves:
            steps = range(self.steps - len(self.sizes), self.steps)
            counted = map(sub, steps, self.uncounted) if self.uncounted else steps
            rates = [self.recipes[replica].rate(step) for step in counted]
            losses = [float(np.reshape(losses, -1)[replica]) for losses in self.by_step]
            by_step = by_step_record(rates, self.sizes, losses)
        return Epoch(self.epoch, self.steps, self.seconds, loss, accuracy, by_step=by_step)


def by_step_record(
    rates: Sequence[float], sizes: Sequence[int], losses: Sequence[float]
) -> dict[str, list[float]]:
    """Return the learning rate, the batch size and the loss of each update of an epoch."""
    every = {"learning_rate": rates, "batch_size": sizes, "loss": losses}
    return {name: [float(value) for value in values] for name, values in every.items()}


class Histories(Sequence[History]):
    """The history of each of R replicas, created when it is asked for. That of a replica that
    failed ends with the last epoch before its failure."""

    def __init__(self, size: int, epochs: Iterable[Sequence[Epoch | None]]) -> None:
        self.size, self.epochs = size, list(epochs)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, replica: int) -> History: ...
    @overload
    def __getitem__(self, replica: slice) -> Sequence[History]: ...
    def __getitem__(self, replica: int | slice) -> History | Sequence[History]:
        if isinstance(replica, slice):
            return [self[number] for number in range(self.size)[replica]]
        index = range(self.size)[replica]
        found = (epoch[index] for epoch in self.epochs)
        return [epoch for epoch in found if epoch is not None]
