"""One frozen record per layer kind: options, output shape, parameters, state, and sample and bad
options.

Shapes leave out the batch: an image is (height, width, channels), a vector (units,). LAYERS is the
table that shape inference, the counts, the summary, the engines and the property tests loop over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dlsys_bench.spec.initializers import (
    INITIALIZERS,
    Fans,
    GlorotUniform,
    Initializer,
    Ones,
    Zeros,
)
from dlsys_bench.spec.record import (
    Record,
    require,
    require_choice,
    require_count,
    require_kind,
    require_number,
)

Shape = tuple[int, ...]
IntPair = tuple[int, int]
BadSample = tuple[Mapping[str, Any], Shape, str]


@dataclass(frozen=True)
class Layer(Record):
    """A layer. `choices` are valid values of each option, for drawing; `bad` are (options, input,
    what is said)."""

    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    bad: ClassVar[tuple[BadSample, ...]] = ()

    def output_shape(self, shape: Shape) -> Shape:
        """The shape that comes out; a SpecError where the input does not fit."""
        return shape

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        """The trainable tensors by name."""
        return {}

    def state(self, shape: Shape) -> dict[str, Shape]:
        """The tensors that training moves without a gradient, by name."""
        return {}

    def initializers(self) -> dict[str, Initializer]:
        """How each tensor of `parameters` and `state` starts."""
        return {}

    def fans(self, shape: Shape) -> Fans:
        """The fans of the kernel, for the initialisers; 1 and 1 where there is none."""
        return Fans(1, 1)

    def title(self) -> str:
        """The options in a few characters, for the summary and for messages."""
        return ""


def _image(kind: str, shape: Shape) -> tuple[int, int, int]:
    require(
        len(shape) == 3,
        f"{kind} takes an image (height, width, channels), but its input is {shape}: put it before flatten",
    )
    return shape[0], shape[1], shape[2]


def _pair(where: str, name: str, value: object) -> IntPair:
    """An int or a pair of ints, as a pair."""
    pair = (
        (value, value)
        if isinstance(value, int)
        else tuple(value)
        if isinstance(value, list | tuple)
        else ()
    )
    require(
        len(pair) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in pair),
        f"{where}: {name} is {value!r}; it takes a whole number from 1, or two (height, width)",
    )
    return pair[0], pair[1]


def _windows(kind: str, what: str, shape: Shape, window: IntPair, strides: IntPair) -> IntPair:
    height, width, _ = _image(kind, shape)
    require(
        window[0] <= height and window[1] <= width,
        f"{kind}: the {what} {window[0]}x{window[1]} is larger than its input {height}x{width}x{shape[2]}",
    )
    return (height - window[0]) // strides[0] + 1, (width - window[1]) // strides[1] + 1


def _check_initializers(layer: Layer) -> None:
    for tensor, initializer in layer.initializers().items():
        require_kind(layer.kind, f"{tensor}_initializer", initializer, Initializer, INITIALIZERS)


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution (cross-correlation). x (N, H, W, C) -> (N, H', W', filters), kernel (h, w, C,
    filters).

    `same` keeps ceil(H / stride), padding with zeros, the odd one at the end, as Keras does.
    """

    filters: int
    kernel_size: IntPair = (3, 3)
    strides: IntPair = (1, 1)
    padding: Literal["valid", "same"] = "valid"
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()

    kind: ClassVar[str] = "conv2d"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "filters": (1, 2, 3),
        "kernel_size": ((3, 3), (1, 1), (2, 3), (4, 2), (5, 5)),
        "strides": ((1, 1), (2, 2), (1, 2), (3, 1), (1, 3)),
        "padding": ("valid", "same"),
        "use_bias": (True, False),
    }
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"filters": 2, "kernel_size": 5}, (4, 4, 1), "kernel 5x5 is larger than its input 4x4x1"),
        ({"filters": 0}, (4, 4, 1), "filters is 0"),
        ({"filters": 2, "strides": 0}, (4, 4, 1), "strides is 0"),
        ({"filters": 2, "padding": "full"}, (4, 4, 1), "padding is 'full'"),
        ({"filters": 2}, (16,), "takes an image"),
        ({"filters": 2, "kernel": 3}, (4, 4, 1), "no option 'kernel'"),
        ({}, (4, 4, 1), "filters"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "filters", self.filters)
        require_choice(self.kind, "padding", self.padding, ("valid", "same"))
        _check_initializers(self)
        object.__setattr__(self, "kernel_size", _pair(self.kind, "kernel_size", self.kernel_size))
        object.__setattr__(self, "strides", _pair(self.kind, "strides", self.strides))

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = _image(self.kind, shape)
        if self.padding == "same":
            return -(-height // self.strides[0]), -(-width // self.strides[1]), self.filters
        return *_windows(self.kind, "kernel", shape, self.kernel_size, self.strides), self.filters

    def pads(self, shape: Shape) -> tuple[IntPair, IntPair]:
        """Zeros ((top, bottom), (left, right)) around the input."""
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
        kernel = {"kernel": (*self.kernel_size, _image(self.kind, shape)[2], self.filters)}
        return kernel | ({"bias": (self.filters,)} if self.use_bias else {})

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}

    def fans(self, shape: Shape) -> Fans:
        window = self.kernel_size[0] * self.kernel_size[1]
        return Fans(window * shape[2], window * self.filters)

    def title(self) -> str:
        strides = "" if self.strides == (1, 1) else f" stride {self.strides[0]}x{self.strides[1]}"
        return f"{self.filters}@{self.kernel_size[0]}x{self.kernel_size[1]} {self.padding}{strides}"


@dataclass(frozen=True)
class _Pool(Layer):
    """What the two pools share: windows inside the image; `strides` is the pool size unless given,
    and may overlap."""

    pool_size: IntPair = (2, 2)
    strides: IntPair | None = None

    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "pool_size": ((2, 2), (1, 1), (3, 2), (2, 3), (3, 3)),
        "strides": (None, (1, 1), (2, 1), (2, 2)),
    }
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"pool_size": 3}, (2, 2, 1), "pool 3x3 is larger than its input 2x2x1"),
        ({"pool_size": 0}, (4, 4, 1), "pool_size is 0"),
        ({"strides": (0, 1)}, (4, 4, 1), "strides is (0, 1)"),
        ({}, (16,), "takes an image"),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool_size", _pair(self.kind, "pool_size", self.pool_size))
        strides = self.pool_size if self.strides is None else self.strides
        object.__setattr__(self, "strides", _pair(self.kind, "strides", strides))

    @property
    def steps(self) -> IntPair:
        """The strides, never None."""
        assert self.strides is not None
        return self.strides

    def output_shape(self, shape: Shape) -> Shape:
        return *_windows(self.kind, "pool", shape, self.pool_size, self.steps), shape[2]

    def title(self) -> str:
        return f"{self.pool_size[0]}x{self.pool_size[1]} stride {self.steps[0]}x{self.steps[1]}"


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of each window. x (N, H, W, C) -> (N, H', W', C)."""

    kind: ClassVar[str] = "average_pool"


@dataclass(frozen=True)
class MaxPool(_Pool):
    """The largest of each window. x (N, H, W, C) -> (N, H', W', C)."""

    kind: ClassVar[str] = "max_pool"


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation over all but the channel axis. x (N, ..., C) -> (N, ..., C). Ioffe &
    Szegedy 2015.

    `moving_decay` is the weight of the old statistic. `moving_variance` says which batch variance
    moves it: the biased (Keras) or the unbiased (torch); the batch itself is always normalised by
    the biased one.
    """

    epsilon: float = 1e-3
    moving_decay: float = 0.99
    moving_variance: Literal["biased", "unbiased"] = "biased"

    kind: ClassVar[str] = "batch_norm"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "epsilon": (1e-3, 1e-5),
        "moving_decay": (0.99, 0.9, 0.5, 0.0),
    }
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"moving_decay": 1.5}, (4,), "moving_decay is 1.5"),
        ({"epsilon": -1.0}, (4,), "epsilon is -1.0"),
        ({"moving_variance": "sample"}, (4,), "moving_variance is 'sample'"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "epsilon", self.epsilon, 0.0, 1.0)
        require_number(self.kind, "moving_decay", self.moving_decay, 0.0, 1.0)
        require_choice(self.kind, "moving_variance", self.moving_variance, ("biased", "unbiased"))

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"gamma": shape[-1:], "beta": shape[-1:]}

    def state(self, shape: Shape) -> dict[str, Shape]:
        return {"moving_mean": shape[-1:], "moving_variance": shape[-1:]}

    def initializers(self) -> dict[str, Initializer]:
        return {"gamma": Ones(), "beta": Zeros(), "moving_mean": Zeros(), "moving_variance": Ones()}


@dataclass(frozen=True)
class Dropout(Layer):
    """Inverted dropout: drops each value with probability `drop_rate`, scales the rest by 1 / (1 -
    drop_rate).

    Nothing happens outside training. Srivastava et al. 2014.
    """

    drop_rate: float = 0.5

    kind: ClassVar[str] = "dropout"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {"drop_rate": (0.5, 0.0, 0.2, 0.9, 0.1)}
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"drop_rate": 1.0}, (4,), "drop_rate is 1.0"),
        ({"drop_rate": -0.1}, (4,), "drop_rate is -0.1"),
        ({"drop_rate": "half"}, (4,), "drop_rate is 'half'"),
    )

    def __post_init__(self) -> None:
        require_number(self.kind, "drop_rate", self.drop_rate, 0.0, 1.0, open_high=True)

    def title(self) -> str:
        return f"{self.drop_rate:g}"


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes but the batch as one, the channel fastest. x (N, H, W, C) -> (N, H * W * C)."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        units = 1
        for size in shape:
            units *= size
        return (units,)


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected. x (N, in) -> (N, units), kernel (in, units)."""

    units: int
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()

    kind: ClassVar[str] = "dense"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "units": (3, 1, 2, 5),
        "use_bias": (True, False),
    }
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"units": -1}, (4,), "units is -1"),
        ({"units": 2.5}, (4,), "units is 2.5"),
        (
            {"units": 2, "kernel_initializer": "he_uniform"},
            (4,),
            "it takes a record, such as HeUniform()",
        ),
        ({"units": 3}, (4, 4, 1), "takes a vector"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "units", self.units)
        _check_initializers(self)

    def output_shape(self, shape: Shape) -> Shape:
        require(
            len(shape) == 1,
            f"{self.kind} takes a vector (units,), but its input is {shape}: put a flatten before it",
        )
        return (self.units,)

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"kernel": (shape[0], self.units)} | (
            {"bias": (self.units,)} if self.use_bias else {}
        )

    def initializers(self) -> dict[str, Initializer]:
        return {"kernel": self.kernel_initializer, "bias": self.bias_initializer}

    def fans(self, shape: Shape) -> Fans:
        return Fans(shape[0], self.units)

    def title(self) -> str:
        return f"{self.units}"


FUNCTIONS = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "softmax")


@dataclass(frozen=True)
class Activation(Layer):
    """A function of each value; softmax, over the last axis. x -> the same shape.

    `negative_slope` is leaky_relu's below zero. At zero relu and leaky_relu take the slope from
    below.
    """

    function: Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "softmax"]
    negative_slope: float = 0.01

    kind: ClassVar[str] = "activation"
    choices: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "function": ("tanh", "sigmoid", "relu", "leaky_relu", "softmax", "linear"),
        # Exact in single precision, to which TensorFlow rounds a slope even among doubles.
        "negative_slope": (0.25, 0.0078125, 0.0),
    }
    bad: ClassVar[tuple[BadSample, ...]] = (
        ({"function": "reluu"}, (4,), 'did you mean "relu"'),
        ({"function": "leaky_relu", "negative_slope": 1.5}, (4,), "negative_slope is 1.5"),
    )

    def __post_init__(self) -> None:
        require_choice(self.kind, "function", self.function, FUNCTIONS)
        require_number(self.kind, "negative_slope", self.negative_slope, 0.0, 1.0)

    def title(self) -> str:
        return self.function


LAYERS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (Conv2D, AveragePool, MaxPool, BatchNorm, Dropout, Flatten, Dense, Activation)
}
