"""How a model is trained: loss, optimiser, batch size, length, and how the data are prepared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.losses import CategoricalCrossEntropy, Loss
from dlsys_bench.spec.optimizers import SGD, Optimizer
from dlsys_bench.spec.record import Record, check_choice, check_count, check_number

SCALINGS = ("raw", "unit", "standard")


@dataclass(frozen=True)
class Recipe(Record):
    """A training recipe.

    The data are shuffled every epoch and the last, smaller batch is used. `steps` stops after that many updates, in
    the middle of an epoch if need be. `scaling` prepares the images: "raw" as they are, "unit" x / 255, "standard"
    (x / 255 - m) / s with the two scalars of the training set. `validation_split` is the fraction of the training set
    kept for validation: the "last" of it, before shuffling, or a "random" one. `evaluate` caps how many training
    samples the evaluated training figures are taken on.
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

    kind: ClassVar[str] = "recipe"

    def __post_init__(self) -> None:
        check_count(self.kind, "batch_size", self.batch_size)
        check_count(self.kind, "epochs", self.epochs)
        for name in ("steps", "evaluate"):
            if getattr(self, name) is not None:
                check_count(self.kind, name, getattr(self, name))
        check_choice(self.kind, "scaling", self.scaling, SCALINGS)
        check_choice(self.kind, "split", self.split, ("last", "random"))
        check_number(self.kind, "validation_split", self.validation_split, 0.0, 1.0, open_high=True)
