"""What is minimised. Every loss takes the network's raw outputs and is a mean over the batch.

`targets` says what y holds: "labels" whole numbers below the width of the output, "signs" -1 or +1,
"values" numbers of the output's own shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.record import Record


@dataclass(frozen=True)
class Loss(Record):
    """A loss by name."""

    targets: ClassVar[Literal["labels", "signs", "values"]]


@dataclass(frozen=True)
class CategoricalCrossEntropy(Loss):
    """-log softmax(logits)[label], the labels handed to the engine's own loss one-hot. logits (N,
    K), labels (N,)."""

    kind: ClassVar[str] = "categorical_crossentropy"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "labels"


@dataclass(frozen=True)
class SparseCategoricalCrossEntropy(Loss):
    """-log softmax(logits)[label], the labels handed over as they are. logits (N, K), labels
    (N,)."""

    kind: ClassVar[str] = "sparse_categorical_crossentropy"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "labels"


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """The mean of (y - t)^2 over batch and outputs. y, t (N, K)."""

    kind: ClassVar[str] = "mean_squared_error"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "values"


@dataclass(frozen=True)
class HalfMeanSquaredError(Loss):
    """1 / (2 N) of the sum of (y - t)^2 over batch and outputs. y, t (N, K)."""

    kind: ClassVar[str] = "half_mean_squared_error"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "values"


@dataclass(frozen=True)
class PerceptronCriterion(Loss):
    """max(0, -t y): only what stands on the wrong side counts. y (N, 1), t (N,) of -1 and +1.
    Rosenblatt 1958."""

    kind: ClassVar[str] = "perceptron"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "signs"


@dataclass(frozen=True)
class Hinge(Loss):
    """max(0, 1 - t y): a margin of one is asked for. y (N, 1), t (N,) of -1 and +1."""

    kind: ClassVar[str] = "hinge"
    targets: ClassVar[Literal["labels", "signs", "values"]] = "signs"


LOSSES: dict[str, type[Loss]] = {
    loss.kind: loss
    for loss in (
        CategoricalCrossEntropy,
        SparseCategoricalCrossEntropy,
        MeanSquaredError,
        HalfMeanSquaredError,
        PerceptronCriterion,
        Hinge,
    )
}
