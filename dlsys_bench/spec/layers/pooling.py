"""The pooling layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape
from dlsys_bench.spec.layers.windows import IntPair, int_pair, require_image, window_counts
from dlsys_bench.spec.record import Choices, Invalid, require


@dataclass(frozen=True)
class _Pool(Layer):
    """The base of the pools: windows inside the image, which may overlap.

    `strides` is the pool size unless given.
    """

    pool_size: IntPair = (2, 2)
    strides: IntPair | None = None

    choices: ClassVar[Choices] = {
        "pool_size": ((2, 2), (1, 1), (3, 2), (2, 3), (3, 3)),
        "strides": (None, (1, 1), (2, 1), (2, 2)),
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"pool_size": 0}, "pool_size is 0"),
        ({"strides": (0, 1)}, "strides is (0, 1)"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"pool_size": 3}, (2, 2, 1), "pool 3x3 is larger than its input 2x2x1"),
        ({}, (16,), "takes an image"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool_size", int_pair(self.kind, "pool_size", self.pool_size))
        strides = self.pool_size if self.strides is None else self.strides
        object.__setattr__(self, "strides", int_pair(self.kind, "strides", strides))

    @property
    def steps(self) -> IntPair:
        """The strides, typed as a pair: `strides` is None only before the record is constructed."""
        assert self.strides is not None
        return self.strides

    def output_shape(self, shape: Shape) -> Shape:
        channels = require_image(self.kind, shape)[2]
        return *window_counts(self.kind, "pool", shape, self.pool_size, self.steps), channels

    def title(self) -> str:
        return f"{self.pool_size[0]}x{self.pool_size[1]} stride {self.steps[0]}x{self.steps[1]}"


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over all positions. x (N, H, W, C) or (N, T, C) -> (N, C). Lin et al. 2014."""

    kind: ClassVar[str] = "global_average_pool"
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({}, (16,), "takes an image or a sequence"),
    )

    def output_shape(self, shape: Shape) -> Shape:
        require(
            len(shape) > 1,
            f"{self.kind} takes an image or a sequence, but its input is {shape}: "
            "put it before flatten",
        )
        return shape[-1:]


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window. x (N, H, W, C) -> (N, H', W', C)."""

    kind: ClassVar[str] = "average_pool"


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The maximum of each window. x (N, H, W, C) -> (N, H', W', C)."""

    kind: ClassVar[str] = "max_pool"
