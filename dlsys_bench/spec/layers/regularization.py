"""Batch normalisation and dropout: the layers that differ between training and prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.initializers import Initializer, Ones, Zeros
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Mask, Shape
from dlsys_bench.spec.record import Choices, Invalid, require, require_choice, require_number


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation over all axes but the channels. x (N, ..., C) -> the same shape.

    `moving_decay` is the weight of the old moving statistics in their update. `moving_variance`
    states which variance of the batch they are updated with, the "biased" (Keras) or the "unbiased"
    one (torch); the batch itself is always normalised by its biased variance. One
    value per channel has no unbiased variance, so such a layer rejects a batch of one vector.

    Ioffe & Szegedy 2015.
    """

    epsilon: float = 1e-3
    moving_decay: float = 0.99
    moving_variance: Literal["biased", "unbiased"] = "biased"

    kind: ClassVar[str] = "batch_norm"
    normalizes: ClassVar[bool] = True
    conventions: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "keras": {"moving_variance": "biased"},
        "torch": {"moving_variance": "unbiased"},
    }
    choices: ClassVar[Choices] = {
        "epsilon": (1e-3, 1e-5),
        "moving_decay": (0.99, 0.9, 0.5, 0.0),
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"moving_decay": 1.5}, "moving_decay is 1.5"),
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"epsilon": 0.0}, "a number in (0, 1]"),
        ({"moving_variance": "sample"}, "moving_variance is 'sample'"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "epsilon", self.epsilon, 0.0, 1.0, open_low=True)
        require_number(self.kind, "moving_decay", self.moving_decay, 0.0, 1.0)
        require_choice(self.kind, "moving_variance", self.moving_variance, ("biased", "unbiased"))

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"gamma": shape[-1:], "beta": shape[-1:]}

    def state(self, shape: Shape) -> dict[str, Shape]:
        return {"moving_mean": shape[-1:], "moving_variance": shape[-1:]}

    def least_samples(self, shape: Shape) -> int:
        # The unbiased variance of n values has the factor n / (n - 1).
        return 2 if self.moving_variance == "unbiased" and math.prod(shape[:-1]) == 1 else 1

    def initializers(self) -> dict[str, Initializer]:
        return {"gamma": Ones(), "beta": Zeros(), "moving_mean": Zeros(), "moving_variance": Ones()}


@dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout. x -> the same shape.

    In training each value is set to zero with probability `drop_rate`, and the others are divided
    by 1 - drop_rate. Prediction is the identity. Srivastava et al. 2014.
    """

    drop_rate: float = 0.5

    kind: ClassVar[str] = "dropout"
    choices: ClassVar[Choices] = {"drop_rate": (0.5, 0.0, 0.2, 0.9, 0.1)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"drop_rate": 1.0}, "drop_rate is 1.0"),
        ({"drop_rate": -0.1}, "drop_rate is -0.1"),
        ({"drop_rate": "half"}, "drop_rate is 'half'"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "drop_rate", self.drop_rate, 0.0, 1.0, open_high=True)

    def mask(self, shape: Shape, *others: Shape) -> Mask | None:
        return Mask(shape, self.drop_rate)

    def title(self) -> str:
        return f"{self.drop_rate:g}"


@dataclass(frozen=True)
class SpatialDropout(Dropout):
    """Dropout of whole channels: all positions of a channel of a sample are kept or dropped.

    x (N, H, W, C) or (N, T, C) -> the same shape. Tompson et al. 2015.
    """

    kind: ClassVar[str] = "spatial_dropout"
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({}, (16,), "takes an image or a sequence"),
    )

    def output_shape(self, shape: Shape) -> Shape:
        require(
            len(shape) > 1,
            f"{self.kind} takes an image or a sequence, but its input is {shape}: use a dropout",
        )
        return shape

    def mask(self, shape: Shape, *others: Shape) -> Mask | None:
        return Mask((*(1 for _ in shape[:-1]), shape[-1]), self.drop_rate)
