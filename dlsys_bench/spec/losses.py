"""The losses. Each takes the network's raw outputs (logits) and is a mean over the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.record import Record

TargetKind = Literal["labels", "signs", "values"]


@dataclass(frozen=True)
class Loss(Record):
    """The base of the losses.

    `targets` states what the targets are: "labels" are ints below the width of the output, "signs"
    are -1 or +1, "values" are floats of the output's shape.
    """

    targets: ClassVar[TargetKind]


@dataclass(frozen=True)
class CategoricalCrossEntropy(Loss):
    """-log softmax(logits)[label]. logits (N, K), labels (N,).

    The engine passes the labels to its framework's loss in one-hot form.
    """

    kind: ClassVar[str] = "categorical_crossentropy"
    targets: ClassVar[TargetKind] = "labels"


@dataclass(frozen=True)
class SparseCategoricalCrossEntropy(Loss):
    """-log softmax(logits)[label]. logits (N, K), labels (N,).

    The engine passes the labels to its framework's loss as ints.
    """

    kind: ClassVar[str] = "sparse_categorical_crossentropy"
    targets: ClassVar[TargetKind] = "labels"


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of (y - t)^2 over the batch and the outputs. y, t (N, K)."""

    kind: ClassVar[str] = "mean_squared_error"
    targets: ClassVar[TargetKind] = "values"


@dataclass(frozen=True)
class HalfMeanSquaredError(Loss):
    """Sum of (y - t)^2 over the batch and the outputs, divided by 2 N. y, t (N, K)."""

    kind: ClassVar[str] = "half_mean_squared_error"
    targets: ClassVar[TargetKind] = "values"


@dataclass(frozen=True)
class PerceptronCriterion(Loss):
    """max(0, -t y): only misclassified samples contribute. y (N, 1), t (N,) of -1 and +1.

    Rosenblatt 1958.
    """

    kind: ClassVar[str] = "perceptron"
    targets: ClassVar[TargetKind] = "signs"


@dataclass(frozen=True)
class Hinge(Loss):
    """max(0, 1 - t y), a margin of one. y (N, 1), t (N,) of -1 and +1."""

    kind: ClassVar[str] = "hinge"
    targets: ClassVar[TargetKind] = "signs"


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
