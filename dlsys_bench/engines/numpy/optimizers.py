"""The optimisers, which update the flat vector of all parameters (R, P)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import numpy as np

from dlsys_bench.engines.numpy.memory import empty, zeros
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop

LearningRates = float | Array

O = TypeVar("O", bound=Optimizer)  # noqa: E741


class Stepper(Generic[O]):
    """An optimiser of R replicas and its state. A step takes one learning rate, or one per replica
    (R, 1), and uses `gradient` as scratch memory."""

    def __init__(self, optimizer: O, parameters: Array) -> None:
        self.optimizer = optimizer
        self.steps = 0
        self.scratch = empty(parameters.shape, parameters.dtype)
        self.start(parameters)

    def start(self, parameters: Array) -> None:
        """Allocate the state."""

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        raise NotImplementedError


class SGDStepper(Stepper[SGD]):
    """v = momentum v + g, p -= rate v (torch), or v = momentum v - rate g, p += v (Keras). Nesterov
    adds one more step of the velocity."""

    def start(self, parameters: Array) -> None:
        """Allocate the state."""
        self.velocity = (
            zeros(parameters.shape, parameters.dtype) if self.optimizer.momentum else None
        )

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer, velocity = self.optimizer, self.velocity
        rate, momentum = learning_rate, optimizer.momentum
        self.steps += 1
        if velocity is None:
            gradient *= rate
            parameters -= gradient
        elif optimizer.velocity == "rate":
            gradient *= -rate
            velocity *= momentum
            velocity += gradient
            if optimizer.nesterov:
                np.multiply(velocity, momentum, out=self.scratch)
                parameters += self.scratch
                parameters += gradient
            else:
                parameters += velocity
        else:
            velocity *= momentum
            # As in torch, the first velocity is the gradient itself; only later ones are dampened.
            np.multiply(
                gradient, 1.0 if self.steps == 1 else 1.0 - optimizer.dampening, out=self.scratch
            )
            velocity += self.scratch
            if optimizer.nesterov:
                np.multiply(velocity, momentum, out=self.scratch)
                self.scratch += gradient
                self.scratch *= rate
            else:
                np.multiply(velocity, rate, out=self.scratch)
            parameters -= self.scratch


class AdamStepper(Stepper[Adam]):
    """p -= rate m / (sqrt(v) + epsilon), with bias-corrected moments. Kingma & Ba 2015."""

    def start(self, parameters: Array) -> None:
        """Allocate the state."""
        self.mean, self.square = (
            zeros(parameters.shape, parameters.dtype),
            zeros(parameters.shape, parameters.dtype),
        )
        self.corrected = self.optimizer.beta_1, self.optimizer.beta_2

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer, scratch = self.optimizer, self.scratch
        self.steps += 1
        self.mean *= optimizer.beta_1
        np.multiply(gradient, 1.0 - optimizer.beta_1, out=scratch)
        self.mean += scratch
        self.square *= optimizer.beta_2
        gradient *= gradient
        gradient *= 1.0 - optimizer.beta_2
        self.square += gradient
        mean_correction, square_correction = (1.0 - beta**self.steps for beta in self.corrected)
        root_correction = square_correction**0.5
        np.sqrt(self.square, out=scratch)
        if optimizer.epsilon_added == "after":
            scratch *= 1.0 / root_correction
            rate = learning_rate / mean_correction
        else:
            rate = learning_rate * root_correction / mean_correction
        scratch += optimizer.epsilon
        np.divide(self.mean, scratch, out=scratch)
        scratch *= rate
        parameters -= scratch


class RMSpropStepper(Stepper[RMSprop]):
    """p -= rate g / sqrt(v + epsilon), with v the moving average of g^2. Hinton 2012."""

    def start(self, parameters: Array) -> None:
        """Allocate the state."""
        self.square = zeros(parameters.shape, parameters.dtype)

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer, scratch = self.optimizer, self.scratch
        self.steps += 1
        self.square *= optimizer.rho
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1.0 - optimizer.rho
        self.square += scratch
        if optimizer.epsilon_added == "inside":
            np.add(self.square, optimizer.epsilon, out=scratch)
            np.sqrt(scratch, out=scratch)
        else:
            np.sqrt(self.square, out=scratch)
            scratch += optimizer.epsilon
        np.divide(gradient, scratch, out=scratch)
        scratch *= learning_rate
        parameters -= scratch


STEPPERS: dict[type[Optimizer], type[Stepper[Any]]] = {
    SGD: SGDStepper,
    Adam: AdamStepper,
    RMSprop: RMSpropStepper,
}
