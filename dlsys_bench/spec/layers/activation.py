"""The activation layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dlsys_bench.spec.layers.base import Choices, InvalidOptions, Layer
from dlsys_bench.spec.record import require_choice, require_number

FUNCTIONS = ("linear", "sigmoid", "tanh", "relu", "leaky_relu", "softmax")


@dataclass(frozen=True)
class Activation(Layer):
    """A function of each value, or, for softmax, of the last axis. x -> the same shape.

    `negative_slope` is the slope of leaky_relu below zero. At zero, the derivative of relu and
    leaky_relu is the one from below.
    """

    function: Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "softmax"]
    negative_slope: float = 0.01

    kind: ClassVar[str] = "activation"
    choices: ClassVar[Choices] = {
        "function": ("tanh", "sigmoid", "relu", "leaky_relu", "softmax", "linear"),
        # Exact in single precision, because TensorFlow rounds the slope to it even in float64.
        "negative_slope": (0.25, 0.0078125, 0.0),
    }
    invalid: ClassVar[tuple[InvalidOptions, ...]] = (
        ({"function": "reluu"}, (4,), 'did you mean "relu"'),
        ({"function": "leaky_relu", "negative_slope": 1.5}, (4,), "negative_slope is 1.5"),
    )

    def __post_init__(self) -> None:
        require_choice(self.kind, "function", self.function, FUNCTIONS)
        require_number(self.kind, "negative_slope", self.negative_slope, 0.0, 1.0)

    def title(self) -> str:
        return self.function
