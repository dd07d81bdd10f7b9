"""The convolution layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.initializers import Fans, GlorotUniform, Initializer, Zeros
from dlsys_bench.spec.layers.base import (
    InvalidInput,
    Layer,
    Shape,
    require_initializers,
)
from dlsys_bench.spec.layers.windows import IntPair, int_pair, require_image, window_counts
from dlsys_bench.spec.record import Choices, Invalid, require_choice, require_count


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution (cross-correlation). x (N, H, W, C) -> (N, H', W', filters).

    The kernel has shape (height, width, C, filters). With padding "same" the output has
    ceil(H / stride) rows; the input is padded with zeros, and where their number is odd, the extra
    one comes at the end, as in Keras.
    """

    filters: int
    kernel_size: IntPair = (3, 3)
    strides: IntPair = (1, 1)
    padding: Literal["valid", "same"] = "valid"
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()

    kind: ClassVar[str] = "conv2d"
    choices: ClassVar[Choices] = {
        "filters": (1, 2, 3),
        "kernel_size": ((3, 3), (1, 1), (2, 3), (4, 2), (5, 5)),
        "strides": ((1, 1), (2, 2), (1, 2), (3, 1), (1, 3)),
        "padding": ("valid", "same"),
        "use_bias": (True, False),
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"filters": 0}, "filters is 0"),
        ({"filters": 2, "strides": 0}, "strides is 0"),
        ({"filters": 2, "padding": "full"}, "padding is 'full'"),
        ({"filters": 2, "kernel": 3}, "no option 'kernel'"),
        ({}, "filters"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"filters": 2, "kernel_size": 5}, (4, 4, 1), "kernel 5x5 is larger than its input 4x4x1"),
        ({"filters": 2}, (16,), "takes an image"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "filters", self.filters)
        require_choice(self.kind, "padding", self.padding, ("valid", "same"))
        require_initializers(self)
        object.__setattr__(
            self, "kernel_size", int_pair(self.kind, "kernel_size", self.kernel_size)
        )
        object.__setattr__(self, "strides", int_pair(self.kind, "strides", self.strides))

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = require_image(self.kind, shape)
        if self.padding == "same":
            return -(-height // self.strides[0]), -(-width // self.strides[1]), self.filters
        counts = window_counts(self.kind, "kernel", shape, self.kernel_size, self.strides)
        return *counts, self.filters

    def pads(self, shape: Shape) -> tuple[IntPair, IntPair]:
        """Return the zeros added around an input: ((top, bottom), (left, right))."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        sides = []
        for size, out, kernel, stride in zip(
            shape, self.output_shape(shape)[:2], self.kernel_size, self.strides, strict=False
        ):
            total = max((out - 1) * stride + kernel - size, 0)
            sides.append((total // 2, total - total // 2))
        return sides[0], sides[1]

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        channels = require_image(self.kind, shape)[2]
        kernel = {"kernel": (*self.kernel_size, channels, self.filters)}
        return kernel | ({"bias": (self.filters,)} if self.use_bias else {})

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}

    def fans(self, shape: Shape) -> Fans:
        window = self.kernel_size[0] * self.kernel_size[1]
        return Fans(window * shape[2], window * self.filters)

    def title(self) -> str:
        strides = "" if self.strides == (1, 1) else f" stride {self.strides[0]}x{self.strides[1]}"
        return f"{self.filters}@{self.kernel_size[0]}x{self.kernel_size[1]} {self.padding}{strides}"
