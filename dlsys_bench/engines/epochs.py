"""Training epoch by epoch: the record that `fit` yields, and the bookkeeping that every engine
needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One epoch. The running figures are means over its batches in training mode, weighted by their
    size: what Keras prints. The others are evaluated at its end. `steps` counts updates from the
    start; `seconds` is training alone. `by_step` has the learning rate, the batch size and the loss
    of each update, where the recipe moves one of them."""

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
