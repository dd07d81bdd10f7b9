"""The normalisations of single samples: layer, RMS and group normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.initializers import Initializer, Ones, Zeros
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape
from dlsys_bench.spec.record import Choices, Invalid, require, require_count, require_number

_INVALID: tuple[Invalid, ...] = (
    ({"epsilon": -1.0}, "epsilon is -1.0"),
    ({"epsilon": 0.0}, "a number in (0, 1]"),
)


@dataclass(frozen=True)
class SampleNorm(Layer):
    """The base of the layers that normalise each sample by itself, in training and in prediction.

    The variance is the biased one. `centers` states that the mean is subtracted and that there is a
    beta; without, values are divided by the root of the mean of their squares.
    """

    epsilon: float = 1e-3

    centers: ClassVar[bool] = True
    normalizes: ClassVar[bool] = True
    choices: ClassVar[Choices] = {"epsilon": (1e-3, 1e-5)}
    invalid: ClassVar[tuple[Invalid, ...]] = _INVALID

    def __post_init__(self) -> None:
        require_number(self.kind, "epsilon", self.epsilon, 0.0, 1.0, open_low=True)

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"gamma": shape[-1:], **({"beta": shape[-1:]} if self.centers else {})}

    def initializers(self) -> dict[str, Initializer]:
        return {"gamma": Ones(), **({"beta": Zeros()} if self.centers else {})}


@dataclass(frozen=True)
class LayerNorm(SampleNorm):
    """Layer normalisation over the channels of each position. x (N, ..., C) -> the same shape.

    Ba, Kiros & Hinton 2016. The default epsilon is that of Keras; torch's is 1e-5.
    """

    kind: ClassVar[str] = "layer_norm"


@dataclass(frozen=True)
class RMSNorm(SampleNorm):
    """gamma x / sqrt(mean(x^2) + epsilon), over the channels of each position.

    Zhang & Sennrich 2019. The default epsilon is that of Keras; torch's is the precision of the
    dtype.
    """

    epsilon: float = 1e-6

    kind: ClassVar[str] = "rms_norm"
    centers: ClassVar[bool] = False
    choices: ClassVar[Choices] = {"epsilon": (1e-6, 1e-3)}


@dataclass(frozen=True)
class GroupNorm(SampleNorm):
    """Group normalisation: over all positions and the channels of each of `groups` equal groups of
    consecutive channels. x (N, ..., C) -> the same shape. Gamma and beta are (C,).

    Wu & He 2018. The default epsilon is that of Keras; torch's is 1e-5.
    """

    groups: int = 2

    kind: ClassVar[str] = "group_norm"
    choices: ClassVar[Choices] = {"groups": (2, 1, 3), "epsilon": (1e-3, 1e-5)}
    invalid: ClassVar[tuple[Invalid, ...]] = (*_INVALID, ({"groups": 0}, "groups is 0"))
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"groups": 2}, (4, 4, 3), "2 groups do not divide 3 channels"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(self.kind, "groups", self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        require(
            shape[-1] % self.groups == 0,
            f"{self.kind}: {self.groups} groups do not divide {shape[-1]} channels",
        )
        return shape

    def title(self) -> str:
        return f"{self.groups} groups"
