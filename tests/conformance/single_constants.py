"""A stand-in for Keras on TensorFlow in float64: numpy with constants in single precision.

It rounds the constants that Keras rounds, and declares the same tolerances. It climbs the ladder in
a minute, which takes Keras ten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from dlsys_bench.engines.keras.declarations import LOOSENS
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.numpy.activation import ActivationRule
from dlsys_bench.engines.numpy.attention import AttentionRule
from dlsys_bench.engines.numpy.optimizers import AdamStepper, RMSpropStepper, SGDStepper
from dlsys_bench.engines.numpy.ruleset import NUMPY_RULES
from dlsys_bench.spec.layers import Activation, MultiHeadAttention
from dlsys_bench.spec.optimizers import SGD, Adam, RMSprop


def single(value: Any) -> Any:
    """Round a number, or one per replica, to single precision."""
    return np.float64(np.float32(value)) if np.ndim(value) else float(np.float32(value))


class _SGD(SGDStepper):
    def start(self, parameters: Any) -> None:
        super().start(parameters)
        self.optimizer = replace(self.optimizer, momentum=single(self.optimizer.momentum))

    def step(self, parameters: Any, gradient: Any, learning_rate: Any) -> None:
        super().step(parameters, gradient, single(learning_rate))


class _Adam(AdamStepper):
    def start(self, parameters: Any) -> None:
        super().start(parameters)
        self.corrected = single(self.optimizer.beta_1), single(self.optimizer.beta_2)

    def step(self, parameters: Any, gradient: Any, learning_rate: Any) -> None:
        super().step(parameters, gradient, single(learning_rate))


class _RMSprop(RMSpropStepper):
    def step(self, parameters: Any, gradient: Any, learning_rate: Any) -> None:
        super().step(parameters, gradient, single(learning_rate))


class _Attention(AttentionRule):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.dtype.type(single(value)) if name == "scale" else value)


class _Activation(ActivationRule):
    def __init__(self, layer: Activation, *rest: Any) -> None:
        super().__init__(replace(layer, negative_slope=single(layer.negative_slope)), *rest)


class SingleConstants(NumpyEngine):
    """Learning rates, momentum, the betas of bias corrections, slopes of leaky ReLU and scales of
    attention are rounded to single precision."""

    convention, conventions = "keras", ("keras",)  # type: ignore[assignment]
    dtypes = ("float64",)
    loosens: ClassVar[Any] = LOOSENS
    rule_set = NUMPY_RULES._replace(
        rules={**NUMPY_RULES.rules, MultiHeadAttention: _Attention, Activation: _Activation},
        steppers={SGD: _SGD, Adam: _Adam, RMSprop: _RMSprop},
    )
