"""The recipe: how a model is trained and how its data are prepared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from dlsys_bench.errors import BatchError, count_of
from dlsys_bench.spec.augmentation import AUGMENTATIONS, Augmentation
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import BATCH_SIZES, BatchSizes, equal
from dlsys_bench.spec.clipping import CLIPS, Clip
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import LOSSES, CategoricalCrossEntropy, Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Optimizer
from dlsys_bench.spec.record import (
    ADDED_LATER,
    Record,
    require,
    require_choice,
    require_count,
    require_kind,
    require_number,
    require_switches,
)
from dlsys_bench.spec.schedules import SCHEDULES, Schedule
from dlsys_bench.spec.stopping import EarlyStopping

SCALINGS = ("raw", "unit", "standard")
PRODUCTS = ("float16", "bfloat16")

PARTS: Mapping[str, tuple[type[Record], Mapping[str, type[Record]]]] = {
    "schedule": (Schedule, SCHEDULES),
    "batch_sizes": (BatchSizes, BATCH_SIZES),
    "clip": (Clip, CLIPS),
    "average": (WeightAverage, {WeightAverage.kind: WeightAverage}),
    "loss_scale": (LossScale, {LossScale.kind: LossScale}),
}
"""The options that are records or None: the base of the records, and those known by kind."""


@dataclass(frozen=True)
class Recipe(Record):
    """A training recipe.

    - `optimizer` and `loss`: how the weights are updated, and what is minimised.
    - `batch_size`: samples per batch. The last batch of an epoch may be smaller.
    - `epochs`: passes over the training set.
    - `steps`: stop after this many updates, even in the middle of an epoch.
    - `shuffle`: visit the samples in a new random order in each epoch.
    - `scaling`: of the images x. "raw" keeps them, "unit" is x / 255, "standard" is
      (x / 255 - m) / s with the scalar mean m and standard deviation s of the training set.
    - `validation_split`: the fraction of the training set that is used for validation.
    - `split`: the "last" samples of the training set are used for that, or "random" ones.
    - `evaluate`: metrics are evaluated on at most this many samples of each split.
    - `moving_decay`: replaces the decay of every batch norm. A decay made for thousands of steps
      leaves the moving statistics near their initial values when a training is short.
    - `augment`: changes the training inputs at random, by these augmentations in turn, anew in each
      epoch. Evaluation takes the inputs as they are.
    - `stopping`: ends a run when its validation figure improves no more.
    - `schedule`: sets the learning rate of each step, in place of the optimiser's.
    - `batch_sizes`: sets the size of each batch, in place of `batch_size`.
    - `samples`: train on at most this many samples, the first of the training set.
    - `clip`: limits the gradient of each update.
    - `accumulate`: computes the gradient of each batch in this many parts, one after another; see
      `micro_batches`. The size of a batch is that of an update.
    - `average`: evaluates the network with a moving average of its weights.
    - `loss_scale`: scales the loss of the backward pass, and skips updates that overflow.
    - `products`: rounds the factors of the products of dense layers, convolutions and attention to
      this format, forward and backward, in training. All else is float32: the weights, which are
      updated in full, the other layers, losses and statistics. An engine may round the outputs of
      products too. "float16" has gradients down to 6e-8 alone, so it takes a loss scale; "bfloat16"
      has the range of float32.
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
    augment: tuple[Augmentation, ...] = field(default=(), metadata={"omit_when": ()})
    stopping: EarlyStopping | None = field(default=None, metadata=ADDED_LATER)
    schedule: Schedule | None = field(default=None, metadata=ADDED_LATER)
    batch_sizes: BatchSizes | None = field(default=None, metadata=ADDED_LATER)
    samples: int | None = field(default=None, metadata=ADDED_LATER)
    clip: Clip | None = field(default=None, metadata=ADDED_LATER)
    accumulate: int | None = field(default=None, metadata=ADDED_LATER)
    average: WeightAverage | None = field(default=None, metadata=ADDED_LATER)
    loss_scale: LossScale | None = field(default=None, metadata=ADDED_LATER)
    products: Literal["float16", "bfloat16"] | None = field(default=None, metadata=ADDED_LATER)

    kind: ClassVar[str] = "recipe"

    def __post_init__(self) -> None:
        require_kind(self.kind, "optimizer", self.optimizer, Optimizer, OPTIMIZERS)
        require_kind(self.kind, "loss", self.loss, Loss, LOSSES)
        require_count(self.kind, "batch_size", self.batch_size)
        require_count(self.kind, "epochs", self.epochs)
        for name in ("steps", "evaluate", "samples"):
            if getattr(self, name) is not None:
                require_count(self.kind, name, getattr(self, name))
        require_switches(self, "shuffle")
        require_choice(self.kind, "scaling", self.scaling, SCALINGS)
        require_choice(self.kind, "split", self.split, ("last", "random"))
        if self.products is not None:
            require_choice(self.kind, "products", self.products, PRODUCTS)
        require_number(
            self.kind, "validation_split", self.validation_split, 0.0, 1.0, open_high=True
        )
        if self.moving_decay is not None:
            require_number(self.kind, "moving_decay", self.moving_decay, 0.0, 1.0)
        if self.stopping is not None:
            self._require_stopping(self.stopping)
        require(
            isinstance(self.augment, tuple),
            f"{self.kind}: augment is {self.augment!r}; expected a tuple, such as (Shift(2),)",
        )
        for record in self.augment:
            require_kind(self.kind, "augment", record, Augmentation, AUGMENTATIONS)
        for name, (base, known) in PARTS.items():
            if getattr(self, name) is not None:
                require_kind(self.kind, name, getattr(self, name), base, known)
        if self.accumulate is not None:
            require_count(self.kind, "accumulate", self.accumulate)
            require(
                self.batch_sizes is not None or self.batch_size % self.accumulate == 0,
                f"{self.kind}: accumulate is {self.accumulate}, which does not divide the "
                f"batch_size {self.batch_size}: the batch of an update is split into equal parts",
            )

    def _require_stopping(self, stopping: EarlyStopping) -> None:
        known = {EarlyStopping.kind: EarlyStopping}
        require_kind(self.kind, "stopping", stopping, EarlyStopping, known)
        watched = f"{self.kind}: {stopping.kind} monitors {stopping.metric}"
        require(self.validation_split > 0, f"{watched}, but validation_split is 0")
        require(
            stopping.metric != "validation_accuracy" or self.loss.targets != "values",
            f"{watched}, but {self.loss.kind} has no accuracy",
        )

    @property
    def moves(self) -> bool:
        """True if the learning rate or the batch size may change from step to step."""
        return self.schedule is not None or self.batch_sizes is not None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step; the first update is step 0."""
        return self.optimizer.learning_rate if self.schedule is None else self.schedule.rate(step)

    def sizes(self, samples: int) -> Iterator[list[int]]:
        """Yield the batch sizes of each epoch. Raises BatchError if one is larger than the data."""
        if self.batch_sizes is not None:
            return itertools.islice(self.batch_sizes.epochs(samples), self.epochs)
        if self.batch_size > samples:
            raise BatchError(
                f"{self.kind}: batch_size is {self.batch_size}, "
                f"but the data have {count_of(samples, 'training sample')}"
            )
        return itertools.repeat(equal(self.batch_size, samples), self.epochs)

    def require_inputs(self, model: Model) -> None:
        """Raise SpecError unless the inputs of a model can be augmented as the recipe says."""
        for record in self.augment:
            record.require(model)

    def micro_batches(self, size: int) -> list[int]:
        """Return the sizes of the parts of a batch of this size: equal ones, of which the last may
        be smaller, and at most `accumulate`.

        The gradient of the batch is the sum of those of the parts, each weighted by its fraction of
        the samples; so is the loss. Every part is a pass of its own: batch norm normalises it by
        its own statistics and moves its moving ones once per part. With a plan, dropout uses the
        mask of the batch, split like the samples.
        """
        return equal(-(-size // (self.accumulate or 1)), size)

    def require_length(self, steps: int) -> None:
        """Raise SpecError if a training of `steps` updates is shorter than the schedule."""
        length = None if self.schedule is None else self.schedule.length
        if self.schedule is not None and length is not None:
            require(
                steps >= length,
                f"{self.kind}: the schedule {self.schedule.kind} has {length} steps, but the "
                f"training {steps}, and would end before the schedule does",
            )

    def adapt(self, model: Model) -> Model:
        """Return the model with this recipe's `moving_decay` in its batch norms."""
        if self.moving_decay is None:
            return model
        decay = self.moving_decay
        return model.map(
            lambda inner: (
                replace(inner, moving_decay=decay) if isinstance(inner, BatchNorm) else inner
            )
        )
