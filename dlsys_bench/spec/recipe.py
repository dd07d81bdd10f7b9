"""How a model is trained: loss, optimiser, batch size, length, and how the data are prepared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from dlsys_bench.errors import BatchError
from dlsys_bench.spec.batches import BATCH_SIZES, BatchSizes, equal
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.losses import LOSSES, CategoricalCrossEntropy, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Optimizer
from dlsys_bench.spec.record import (
    Record,
    require_choice,
    require_count,
    require_kind,
    require_number,
)
from dlsys_bench.spec.schedules import SCHEDULES, Schedule

SCALINGS = ("raw", "unit", "standard")

# What came after the first stored runs is left out of JSON while it is not used: their protocol is
# a digest of it.
LATER: dict[str, Any] = {"absent_when": None}


@dataclass(frozen=True)
class Recipe(Record):
    """A training recipe.

    The data are shuffled every epoch and the last, smaller batch is used. `steps` stops after that
    many updates, in the middle of an epoch if need be. `scaling` prepares the images: "raw" as they
    are, "unit" x / 255, "standard" (x / 255 - m) / s with the two scalars of the training set.
    `validation_split` is the fraction of the training set kept for validation: the "last" of it,
    before shuffling, or a "random" one. `evaluate` caps how many samples of each split the
    evaluated figures are taken on. `moving_decay` replaces that of every batch norm: what is
    remembered over hundreds of steps is still half its start when a short training ends. `schedule`
    gives the learning rate of each step in place of the optimiser's, `batch_sizes` the sizes of the
    batches in place of `batch_size`. `samples` keeps the first so many of the training set, where
    it has more.
    """

    optimizer: Optimizer = SGD()
    batch_size: int = 128
    epochs: int = 10
    steps: int | None = None
    loss: Loss = CategoricalCrossEntropy()
    shuffle: bool = True
    scaling: Literal["raw", "unit", "standard"] = "unit"
    validation_split: float = 0.0
    split: Literal["last", "random"] = "last"
    evaluate: int | None = None
    moving_decay: float | None = None
    schedule: Schedule | None = field(default=None, metadata=LATER)
    batch_sizes: BatchSizes | None = field(default=None, metadata=LATER)
    samples: int | None = field(default=None, metadata=LATER)

    kind: ClassVar[str] = "recipe"

    def __post_init__(self) -> None:
        require_kind(self.kind, "optimizer", self.optimizer, Optimizer, OPTIMIZERS)
        require_kind(self.kind, "loss", self.loss, Loss, LOSSES)
        require_count(self.kind, "batch_size", self.batch_size)
        require_count(self.kind, "epochs", self.epochs)
        for name in ("steps", "evaluate", "samples"):
            if getattr(self, name) is not None:
                require_count(self.kind, name, getattr(self, name))
        require_choice(self.kind, "scaling", self.scaling, SCALINGS)
        require_choice(self.kind, "split", self.split, ("last", "random"))
        require_number(
            self.kind, "validation_split", self.validation_split, 0.0, 1.0, open_high=True
        )
        if self.moving_decay is not None:
            require_number(self.kind, "moving_decay", self.moving_decay, 0.0, 1.0)
        if self.schedule is not None:
            require_kind(self.kind, "schedule", self.schedule, Schedule, SCHEDULES)
        if self.batch_sizes is not None:
            require_kind(self.kind, "batch_sizes", self.batch_sizes, BatchSizes, BATCH_SIZES)

    @property
    def moves(self) -> bool:
        """Whether the learning rate or the batch size changes from step to step."""
        return self.schedule is not None or self.batch_sizes is not None

    def rate(self, step: int) -> float:
        """The learning rate of an update, from 0."""
        return self.optimizer.learning_rate if self.schedule is None else self.schedule.rate(step)

    def sizes(self, samples: int) -> Iterator[list[int]]:
        """The sizes of the batches of each epoch. A batch larger than the data is a SpecError."""
        if self.batch_sizes is not None:
            return itertools.islice(self.batch_sizes.epochs(samples), self.epochs)
        if self.batch_size > samples:
            raise BatchError(
                f"{self.kind}: batch_size is {self.batch_size}, but there are {samples} training samples"
            )
        return itertools.repeat(equal(self.batch_size, samples), self.epochs)

    def adapt(self, model: Model) -> Model:
        """The model as this recipe trains it."""
        if self.moving_decay is None:
            return model
        decay = self.moving_decay
        return model.map(
            lambda inner: (
                replace(inner, moving_decay=decay) if isinstance(inner, BatchNorm) else inner
            )
        )
