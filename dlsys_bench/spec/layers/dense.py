"""The dense and the flatten layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.initializers import Fans, GlorotUniform, Initializer, Zeros
from dlsys_bench.spec.layers.base import (
    InvalidInput,
    Layer,
    Shape,
    require_initializers,
)
from dlsys_bench.spec.record import Choices, Invalid, require, require_count, require_switches


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes but the batch as one, the channels fastest.

    x (N, H, W, C) -> (N, H * W * C), or x (N, T, C) -> (N, T * C).
    """

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer. x (N, in) -> (N, units), with a kernel of shape (in, units).

    Of a sequence, it treats each position alike: x (N, T, in) -> (N, T, units).
    """

    units: int
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()

    kind: ClassVar[str] = "dense"
    choices: ClassVar[Choices] = {"units": (3, 1, 2, 5), "use_bias": (True, False)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"units": -1}, "units is -1"),
        ({"units": 2.5}, "units is 2.5"),
        ({"units": 2, "kernel_initializer": "he_uniform"}, "a record, such as HeUniform()"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"units": 3}, (4, 4, 1), "takes a vector"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "units", self.units)
        require_switches(self, "use_bias")
        require_initializers(self)

    def output_shape(self, shape: Shape) -> Shape:
        require(
            len(shape) in (1, 2),
            f"{self.kind} takes a vector (units,) or a sequence (positions, channels), "
            f"but its input is {shape}: put a flatten before it",
        )
        return (*shape[:-1], self.units)

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        kernel = {"kernel": (shape[-1], self.units)}
        return kernel | ({"bias": (self.units,)} if self.use_bias else {})

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}

    def fans(self, shape: Shape) -> Fans:
        return Fans(shape[-1], self.units)

    def title(self) -> str:
        return f"{self.units}"
