"""The optimisers in one pass each. What each does is said where numpy does it."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlsys_bench.engines.numba import kernels
from dlsys_bench.engines.numpy import optimizers
from dlsys_bench.engines.numpy.optimizers import AdamStepper, Rate, RMSpropStepper, SGDStepper, Stepper
from dlsys_bench.plan import Array
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop


def _each(rate: Rate, parameters: Array) -> Array:
    """The rate of each replica (R,), in the parameters' dtype."""
    every = np.empty(len(parameters), parameters.dtype)
    every[:] = rate[:, 0] if isinstance(rate, np.ndarray) else rate
    return every


class FusedSGDStepper(SGDStepper):
    def step(self, parameters: Array, gradient: Array, learning_rate: Rate) -> None:
        optimizer = self.optimizer
        if self.velocity is None:
            super().step(parameters, gradient, learning_rate)
            return
        self.steps += 1
        new = 1.0 if self.steps == 1 else 1.0 - optimizer.dampening
        kernels.sgd(parameters, gradient, self.velocity, _each(learning_rate, parameters),
                    optimizer.momentum, new, optimizer.velocity == "rate", optimizer.nesterov)  # fmt: skip


class FusedAdamStepper(AdamStepper):
    def step(self, parameters: Array, gradient: Array, learning_rate: Rate) -> None:
        optimizer = self.optimizer
        self.steps += 1
        mean_correction, square_correction = (1.0 - beta**self.steps for beta in self.corrected)
        root = square_correction**0.5
        if optimizer.epsilon_added == "after":
            rate, times = learning_rate / mean_correction, 1.0 / root
        else:
            rate, times = learning_rate * root / mean_correction, 1.0
        kernels.adam(parameters, gradient, self.mean, self.square, _each(rate, parameters),
                     optimizer.beta_1, optimizer.beta_2, times, optimizer.epsilon)  # fmt: skip


class FusedRMSpropStepper(RMSpropStepper):
    def step(self, parameters: Array, gradient: Array, learning_rate: Rate) -> None:
        optimizer = self.optimizer
        self.steps += 1
        kernels.rmsprop(parameters, gradient, self.square, _each(learning_rate, parameters),
                        optimizer.rho, optimizer.epsilon, optimizer.epsilon_added == "inside")  # fmt: skip


STEPPERS: dict[type[Optimizer], type[Stepper[Any]]] = optimizers.STEPPERS | {
    SGD: FusedSGDStepper,
    Adam: FusedAdamStepper,
    RMSprop: FusedRMSpropStepper,
}
