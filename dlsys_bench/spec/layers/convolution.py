"""The convolution layers, of images and of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Literal

from dlsys_bench.spec.initializers import Fans, GlorotUniform, Initializer, Zeros
from dlsys_bench.spec.layers.base import (
    InvalidInput,
    Layer,
    Shape,
    require_initializers,
)
from dlsys_bench.spec.layers.windows import (
    IntPair,
    as_sizes,
    by,
    int_pair,
    require_image,
    require_sequence,
    window_counts,
)
from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    require,
    require_choice,
    require_count,
    require_switches,
)

PLAIN: Choices = {"padding": ("valid", "same"), "use_bias": (True, False)}


@dataclass(frozen=True)
class Convolution(Layer):
    """The base of the convolutions (cross-correlations).

    The kernel has shape (*window, channels / groups, filters). The channels and the filters are
    divided into `groups` of consecutive ones, and each filter takes the channels of its own group:
    filter f those of group f // (filters / groups). With as many groups as channels, the
    convolution is depthwise. The order of the filters is that of `groups` in Keras and in torch. It
    is also that of Keras's DepthwiseConv2D, whose kernel (*window, channels, multiplier) has the
    values of the kernel (*window, 1, channels * multiplier) here.

    The values that a window multiplies are `dilation` apart. With padding "same" the output has
    ceil(size / stride) values along an axis; the input is padded with zeros, and where their number
    is odd, the extra one comes at the end, as in Keras.

    The fans of the kernel count the channels of one group and all filters, as in Keras and torch.
    """

    filters: int
    kernel_size: int | IntPair = 3
    strides: int | IntPair = 1
    padding: str = "valid"
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()
    groups: int = field(default=1, metadata={"omit_when": 1})
    dilation: int | IntPair = 1

    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __post_init__(self) -> None:
        require_count(self.kind, "filters", self.filters)
        require_count(self.kind, "groups", self.groups)
        require(
            self.filters % self.groups == 0,
            f"{self.kind}: {self.groups} groups do not divide {self.filters} filters",
        )
        require_choice(self.kind, "padding", self.padding, self.paddings)
        require_switches(self, "use_bias")
        require_initializers(self)
        self._check_sizes()
        require(
            max(self.steps) == 1 or max(self.spacing) == 1,
            f"{self.kind}: strides {by(self.steps)} with dilation {by(self.spacing)}; "
            "Keras has either, so one of them has to be 1",
        )

    def _check_sizes(self) -> None:
        """Validate the options that are sizes along each axis."""
        raise NotImplementedError

    @property
    def window(self) -> Shape:
        """The size of the kernel along each axis of positions."""
        return as_sizes(self.kernel_size)

    @property
    def steps(self) -> Shape:
        """The stride along each axis of positions."""
        return as_sizes(self.strides)

    @property
    def spacing(self) -> Shape:
        """The dilation along each axis of positions."""
        return as_sizes(self.dilation)

    @property
    def span(self) -> Shape:
        """The number of values between the ends of a window, both included, along each axis."""
        return tuple(
            (size - 1) * space + 1 for size, space in zip(self.window, self.spacing, strict=True)
        )

    @property
    def needs(self) -> tuple[str, ...]:
        used = {"grouped": self.groups > 1, "dilated": max(self.spacing) > 1}
        return (self.kind, *(f"{name}_{self.kind}" for name, uses in used.items() if uses))

    def channels(self, shape: Shape) -> int:
        """Return the channels of an input. Raises SpecError if its axes are unsuitable."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        channels = self.channels(shape)
        require(
            channels % self.groups == 0,
            f"{self.kind}: {self.groups} groups do not divide {channels} channels",
        )
        if self.padding != "valid":
            sizes = zip(shape, self.steps, strict=False)
            return (*(-(-size // stride) for size, stride in sizes), self.filters)
        dilated = "" if max(self.spacing) == 1 else "dilated "
        counts = window_counts(self.kind, f"{dilated}kernel", shape, self.span, self.steps)
        return *counts, self.filters

    def pads(self, shape: Shape) -> tuple[IntPair, ...]:
        """Return the zeros before and after an input along each axis: for an image, ((top, bottom),
        (left, right))."""
        if self.padding == "valid":
            return tuple((0, 0) for _ in self.window)
        sides = []
        for size, out, span, stride in zip(
            shape, self.output_shape(shape), self.span, self.steps, strict=False
        ):
            total = max((out - 1) * stride + span - size, 0)
            sides.append((total // 2, total - total // 2))
        return tuple(sides)

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        kernel = {"kernel": (*self.window, self.channels(shape) // self.groups, self.filters)}
        return kernel | ({"bias": (self.filters,)} if self.use_bias else {})

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}

    def fans(self, shape: Shape) -> Fans:
        size = prod(self.window)
        return Fans(size * (shape[-1] // self.groups), size * self.filters)

    def title(self) -> str:
        strides = "" if max(self.steps) == 1 else f" stride {by(self.steps)}"
        groups = "" if self.groups == 1 else f", {self.groups} groups"
        dilation = "" if max(self.spacing) == 1 else f", dilation {by(self.spacing)}"
        return f"{self.filters}@{by(self.window)} {self.padding}{strides}{groups}{dilation}"


_INVALID: tuple[Invalid, ...] = (
    ({"filters": 0}, "filters is 0"),
    ({"filters": 2, "strides": 0}, "strides is 0"),
    ({"filters": 2, "padding": "full"}, "padding is 'full'"),
    ({"filters": 2, "kernel": 3}, "no option 'kernel'"),
    ({"filters": 2, "groups": 0}, "groups is 0"),
    ({"filters": 2, "groups": 3}, "3 groups do not divide 2 filters"),
    ({"filters": 2, "dilation": 0}, "dilation is 0"),
    ({"filters": 2, "strides": 2, "dilation": 2}, "one of them has to be 1"),
    ({}, "filters"),
)


@dataclass(frozen=True)
class Conv2D(Convolution):
    """2-D convolution. x (N, H, W, C) -> (N, H', W', filters); see `Convolution`."""

    kernel_size: IntPair = (3, 3)
    strides: IntPair = (1, 1)
    padding: Literal["valid", "same"] = "valid"
    dilation: IntPair = field(default=(1, 1), metadata={"omit_when": (1, 1)})

    kind: ClassVar[str] = "conv2d"
    choices: ClassVar[Choices] = {
        "filters": (1, 2, 3),
        "kernel_size": ((3, 3), (1, 1), (2, 3), (4, 2), (5, 5)),
        "strides": ((1, 1), (2, 2), (1, 2), (3, 1), (1, 3)),
        **PLAIN,
    }
    variants: ClassVar[Mapping[str, Choices]] = {
        "conv2d": choices,
        "grouped_conv2d": {
            "filters": (6, 12),
            "groups": (2, 3, 6),
            "kernel_size": ((3, 3), (1, 1), (2, 3)),
            "strides": ((1, 1), (2, 2), (1, 2)),
            **PLAIN,
        },
        "dilated_conv2d": {
            "filters": (2, 4),
            "groups": (1, 2),
            "kernel_size": ((2, 2), (3, 2), (1, 3)),
            "dilation": ((2, 2), (2, 1), (1, 3)),
            **PLAIN,
        },
    }
    invalid: ClassVar[tuple[Invalid, ...]] = _INVALID
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"filters": 2, "kernel_size": 5}, (4, 4, 1), "kernel 5x5 is larger than its input 4x4x1"),
        ({"filters": 2, "dilation": 2}, (4, 4, 1), "dilated kernel 5x5 is larger than its input"),
        ({"filters": 2}, (16,), "takes an image"),
        ({"filters": 4, "groups": 2}, (4, 4, 3), "2 groups do not divide 3 channels"),
    )

    def _check_sizes(self) -> None:
        for name in ("kernel_size", "strides", "dilation"):
            object.__setattr__(self, name, int_pair(self.kind, name, getattr(self, name)))

    def channels(self, shape: Shape) -> int:
        return require_image(self.kind, shape)[2]


@dataclass(frozen=True)
class Conv1D(Convolution):
    """1-D convolution. x (N, T, C) -> (N, T', filters); see `Convolution`.

    Padding "causal" has all zeros at the start, so that no output depends on a later position.
    """

    kernel_size: int = 3
    strides: int = 1
    padding: Literal["valid", "same", "causal"] = "valid"
    dilation: int = field(default=1, metadata={"omit_when": 1})

    kind: ClassVar[str] = "conv1d"
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same", "causal")
    choices: ClassVar[Choices] = {
        "filters": (2, 1, 3),
        "kernel_size": (3, 1, 2, 4),
        "strides": (1, 2, 3),
        "padding": ("valid", "same", "causal"),
        "use_bias": (True, False),
    }
    variants: ClassVar[Mapping[str, Choices]] = {
        "conv1d": choices,
        "grouped_conv1d": {**choices, "filters": (6, 12), "groups": (2, 3, 6)},
        "dilated_conv1d": {
            **choices,
            "filters": (2, 4),
            "groups": (1, 2),
            "strides": (1,),
            "dilation": (2, 3),
        },
    }
    invalid: ClassVar[tuple[Invalid, ...]] = _INVALID
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"filters": 2, "kernel_size": 5}, (4, 1), "kernel 5 is larger than its input 4x1"),
        ({"filters": 2}, (4, 4, 1), "takes a sequence"),
        ({"filters": 4, "groups": 2}, (4, 3), "2 groups do not divide 3 channels"),
    )

    def _check_sizes(self) -> None:
        for name in ("kernel_size", "strides", "dilation"):
            require_count(self.kind, name, getattr(self, name))

    def channels(self, shape: Shape) -> int:
        return require_sequence(self.kind, shape)[1]

    def pads(self, shape: Shape) -> tuple[IntPair, ...]:
        if self.padding == "causal":
            return ((self.span[0] - 1, 0),)
        return super().pads(shape)
