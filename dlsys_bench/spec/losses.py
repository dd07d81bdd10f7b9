"""The losses. Each takes the network's raw outputs (logits) and is a mean over the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import inf, isfinite
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    Record,
    require,
    require_choice,
    require_number,
)

TargetKind = Literal["labels", "signs", "binary", "values"]

Weighting = Literal["samples", "classes"]


@dataclass(frozen=True)
class Loss(Record):
    """The base of the losses.

    `targets` states what the targets are: "labels" are ints below the width of the output, "signs"
    are -1 or +1, "binary" are 0 or 1 of the output's shape, or (N,) for one output, and "values"
    are floats of the output's shape.
    """

    targets: ClassVar[TargetKind]

    @property
    def used_options(self) -> tuple[str, ...]:
        """The options of LOSS_OPTIONS that this loss uses, which an engine may lack."""
        return ()

    @property
    def is_weighted(self) -> bool:
        """True if the answers have weights, so that the mean is not one over all of them."""
        return False


LOSS_OPTIONS = ("label_smoothing", "ignored_label", "class_weights")
"""The options that an engine may lack; at their defaults, they have no effect."""

_WEIGHTS = (0.5, 2.0, 1.25)
_EACH: dict[str, Choices] = {
    "label_smoothing": {"label_smoothing": (0.1, 0.6)},
    "ignored_label": {"ignored_label": (1, 0, 255, -100)},
    "class_weights": {"class_weights": (_WEIGHTS, (3.0, 0.0, 1.0))},
}


def _variants(kind: str) -> dict[str, Choices]:
    """Return the variants of a cross-entropy: plain, with each option, and with all of them."""
    together = {name: choices[name] for name, choices in _EACH.items()}
    return {
        kind: {},
        **{f"{kind}-{name}": choices for name, choices in _EACH.items()},
        f"{kind}-{'-'.join(_EACH)}": together,
    }


_INVALID: tuple[Invalid, ...] = (
    ({"label_smoothing": 1.0}, "label_smoothing is 1.0; expected a number in [0, 1)"),
    ({"label_smoothing": -0.1}, "label_smoothing is -0.1; expected a number in [0, 1)"),
    ({"ignored_label": 1.5}, "ignored_label is 1.5; expected an integer or None"),
    ({"ignored_label": True}, "ignored_label is True; expected an integer or None"),
    ({"class_weights": 2.0}, "class_weights is 2.0; expected a tuple of numbers from 0"),
    ({"class_weights": (1.0, -1.0)}, "class_weights is (1.0, -1.0); expected a tuple"),
    ({"class_weights": (1.0, float("nan"))}, "expected a tuple of numbers from 0"),
    ({"class_weights": (0.0, 0.0)}, "at least one of them positive"),
    ({"class_weights": ()}, "at least one of them positive"),
    ({"weighting": "labels"}, "expected one of samples, classes"),
)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """The base of the cross-entropies, -log softmax(logits)[label], a mean over the answers (the
    samples, or the positions of sequences). logits (N, K) or (N, T, K), labels (N,) or (N, T).

    - `label_smoothing`: the targets are one-hot times 1 - s, plus s / K for every class, the right
      one included, as in Keras and in torch.
    - `ignored_label`: answers with this label have no loss and no gradient, and the mean is over
      the others, as in torch (`ignore_index`) and in Keras (`ignore_class`). Weights of zero for
      samples, in Keras, divide by all answers instead. It may be a class, such as that of padding,
      or no class, such as -100.
    - `class_weights`: one number from 0 for each class.
    - `weighting`: how weights enter, where Keras and torch differ. With "samples", as in Keras
      (`class_weight`), the loss of an answer is multiplied by the weight of its label, and the sum
      is divided by the number of answers kept. With "classes", as in torch (`weight`), each term of
      the sum over the classes is multiplied by the weight of its class, and the sum is divided by
      the sum of the weights of the labels kept. Without smoothing, only the divisors differ.

    Where the divisor is zero, because every label is ignored, the loss and its gradient are zero.
    torch and older versions of Keras give NaN there.
    """

    label_smoothing: float = field(default=0.0, metadata={"omit_when": 0.0})
    ignored_label: int | None = field(default=None, metadata={"omit_when": None})
    class_weights: tuple[float, ...] | None = field(default=None, metadata={"omit_when": None})
    weighting: Weighting = field(default="samples", metadata={"omit_when": "samples"})

    targets: ClassVar[TargetKind] = "labels"
    invalid: ClassVar[tuple[Invalid, ...]] = _INVALID
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"weighting": "samples"},
        "torch": {"weighting": "classes"},
    }

    def __post_init__(self) -> None:
        require_number(self.kind, "label_smoothing", self.label_smoothing, 0.0, 1.0, open_high=True)
        ignored, weights = self.ignored_label, self.class_weights
        require(
            ignored is None or (isinstance(ignored, int) and not isinstance(ignored, bool)),
            f"{self.kind}: ignored_label is {ignored!r}; expected an integer or None",
        )
        require(
            weights is None or _are_weights(weights),
            f"{self.kind}: class_weights is {weights!r}; expected a tuple of numbers from 0, one "
            "for each class, at least one of them positive",
        )
        require_choice(self.kind, "weighting", self.weighting, ("samples", "classes"))

    def convention_options(self, convention: str) -> Mapping[str, Any]:
        """Return the options that follow a convention: none without weights, which say nothing."""
        return super().convention_options(convention) if self.class_weights else {}

    @property
    def used_options(self) -> tuple[str, ...]:
        """The options of LOSS_OPTIONS that differ from their defaults."""
        defaults = {option.name: option.default for option in fields(self)}
        return tuple(name for name in LOSS_OPTIONS if getattr(self, name) != defaults[name])

    @property
    def is_weighted(self) -> bool:
        """True if labels are ignored or have weights."""
        return self.ignored_label is not None or self.class_weights is not None


def _are_weights(values: object) -> bool:
    """Return whether a value is a tuple of finite numbers from 0, at least one of them positive."""
    if not isinstance(values, tuple):
        return False
    numbers = [
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return (
        len(numbers) == len(values)
        and all(isfinite(value) and value >= 0 for value in numbers)
        and any(numbers)
    )


@dataclass(frozen=True)
class CategoricalCrossEntropy(CrossEntropy):
    """-log softmax(logits)[label], a mean over the answers. logits (N, K) or (N, T, K), labels (N,)
    or (N, T).

    The options are those of `CrossEntropy`. The engine passes the labels to its framework's loss
    in one-hot form.
    """

    kind: ClassVar[str] = "categorical_crossentropy"
    variants: ClassVar[Mapping[str, Choices]] = _variants(kind)


@dataclass(frozen=True)
class SparseCategoricalCrossEntropy(CrossEntropy):
    """-log softmax(logits)[label], a mean over the answers. logits (N, K) or (N, T, K), labels (N,)
    or (N, T).

    The options are those of `CrossEntropy`. The engine passes the labels to its framework's loss
    as ints.
    """

    kind: ClassVar[str] = "sparse_categorical_crossentropy"
    variants: ClassVar[Mapping[str, Choices]] = _variants(kind)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """-t log s(y) - (1 - t) log(1 - s(y)) of the sigmoid s, a mean over the batch and the outputs.
    y (N, ...), t of 0 and 1 of the same shape, or (N,) for y (N, 1).

    It is computed as max(y, 0) - t y + log(1 + exp(-|y|)), which is finite for every y. An output
    predicts 1 if it is above zero; each output of a sample is an answer.
    """

    kind: ClassVar[str] = "binary_crossentropy"
    targets: ClassVar[TargetKind] = "binary"


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean of (y - t)^2 over the batch and the outputs. y, t (N, ...)."""

    kind: ClassVar[str] = "mean_squared_error"
    targets: ClassVar[TargetKind] = "values"


@dataclass(frozen=True)
class HalfMeanSquaredError(Loss):
    """Sum of (y - t)^2 over the batch and the outputs, divided by 2 N. y, t (N, ...)."""

    kind: ClassVar[str] = "half_mean_squared_error"
    targets: ClassVar[TargetKind] = "values"


@dataclass(frozen=True)
class Huber(Loss):
    """Mean over the batch and the outputs of e^2 / 2 where |e| = |y - t| is at most delta, and of
    delta (|e| - delta / 2) beyond. y, t (N, ...).

    This is `HuberLoss` of torch and `Huber` of Keras. `SmoothL1Loss` of torch is this divided by
    its beta = delta. Huber 1964.
    """

    delta: float = 1.0

    kind: ClassVar[str] = "huber"
    targets: ClassVar[TargetKind] = "values"
    choices: ClassVar[Choices] = {"delta": (0.4, 1.0, 3.0)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"delta": 0.0}, "delta is 0.0; expected a number in (0, inf)"),
        ({"delta": -1}, "delta is -1; expected a number in (0, inf)"),
        ({"delta": inf}, "delta is inf; expected a number in (0, inf)"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "delta", self.delta, 0.0, inf, open_low=True, open_high=True)


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
        BinaryCrossEntropy,
        Huber,
    )
}
