"""The activation layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from dlsys_bench.spec.layers.base import Layer
from dlsys_bench.spec.record import Choices, Invalid, require_choice, require_number


class Function(NamedTuple):
    """The properties of an activation function that checks need to know.

    `kink` states that the derivative jumps at zero, `either_slope` that frameworks differ in the
    derivative at zero and each is right. `least_units` is the smallest last axis on which the
    function is not constant.
    """

    kink: bool = False
    either_slope: bool = False
    least_units: int = 1


FUNCTIONS: Mapping[str, Function] = {
    "linear": Function(),
    "sigmoid": Function(),
    "tanh": Function(),
    "relu": Function(kink=True),
    "leaky_relu": Function(kink=True, either_slope=True),
    "softmax": Function(least_units=2),
    "elu": Function(),
    "softplus": Function(),
    "silu": Function(),
    "gelu": Function(),
    "gelu_tanh": Function(),
}


@dataclass(frozen=True)
class Activation(Layer):
    """A function of each value, or, for softmax, of the last axis. x -> the same shape.

    elu has a scale of one. gelu is x times the normal distribution function of x, gelu_tanh its
    approximation by a tanh; Keras and torch name both gelu, and select by `approximate`. silu is
    x sigmoid(x), also known as swish. Hendrycks & Gimpel 2016, Clevert et al. 2016.

    `negative_slope` is the slope of leaky_relu below zero. At zero, the derivative of relu and
    leaky_relu is the one from below.
    """

    function: str
    negative_slope: float = 0.01

    kind: ClassVar[str] = "activation"
    choices: ClassVar[Choices] = {
        "function": tuple(FUNCTIONS),
        # Exact in single precision, because TensorFlow rounds the slope to it even in float64.
        "negative_slope": (0.25, 0.0078125, 0.0),
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"function": "reluu"}, 'did you mean "relu"'),
        ({"function": "leaky_relu", "negative_slope": 1.5}, "negative_slope is 1.5"),
    )

    def __post_init__(self) -> None:
        require_choice(self.kind, "function", self.function, tuple(FUNCTIONS))
        require_number(self.kind, "negative_slope", self.negative_slope, 0.0, 1.0)

    def title(self) -> str:
        return self.function
