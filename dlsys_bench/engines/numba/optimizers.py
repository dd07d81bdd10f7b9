"""The optimisers, compiled to one pass over memory each. The numpy engine documents them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numpy import optimizers
from dlsys_bench.engines.numpy.optimizers import (
    AdamStepper,
    LearningRates,
    RMSpropStepper,
    SGDStepper,
    Stepper,
)
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop


@kernel
def sgd(
    p: Array,
    g: Array,
    v: Array,
    rate: Array,
    momentum: float,
    new: float,
    by_rate: bool,
    nesterov: bool,
) -> None:
    """Gradient descent with a velocity, to which a gradient contributes the fraction `new`."""
    for r in range(p.shape[0]):
        step, keeps, takes = rate[r], p.dtype.type(momentum), p.dtype.type(new)
        if by_rate:
            for i in range(p.shape[1]):
                move = -step * g[r, i]
                v[r, i] = keeps * v[r, i] + move
                p[r, i] += keeps * v[r, i] + move if nesterov else v[r, i]
        else:
            for i in range(p.shape[1]):
                v[r, i] = keeps * v[r, i] + takes * g[r, i]
                p[r, i] -= step * (keeps * v[r, i] + g[r, i] if nesterov else v[r, i])


@kernel
def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: Array,
    options: tuple[float, float, float, float],
) -> None:
    """Adam. The rate includes the correction of the mean; the options are beta_1, beta_2, the
    factor of the root of the mean square, and epsilon."""
    beta_1, beta_2, root, epsilon = options
    one = 1.0
    keep_m, new_m = p.dtype.type(beta_1), p.dtype.type(one - beta_1)
    keep_v, new_v = p.dtype.type(beta_2), p.dtype.type(one - beta_2)
    times, plus = p.dtype.type(root), p.dtype.type(epsilon)
    for r in range(p.shape[0]):
        step = rate[r]
        for i in range(p.shape[1]):
            m[r, i] = keep_m * m[r, i] + new_m * g[r, i]
            v[r, i] = keep_v * v[r, i] + new_v * (g[r, i] * g[r, i])
            p[r, i] -= step * m[r, i] / (np.sqrt(v[r, i]) * times + plus)


@kernel
def rmsprop(
    p: Array, g: Array, v: Array, rate: Array, rho: float, epsilon: float, inside: bool
) -> None:
    """RMSprop, with epsilon inside the root or after it."""
    one = 1.0
    keep, new, plus = p.dtype.type(rho), p.dtype.type(one - rho), p.dtype.type(epsilon)
    for r in range(p.shape[0]):
        step = rate[r]
        for i in range(p.shape[1]):
            v[r, i] = keep * v[r, i] + new * (g[r, i] * g[r, i])
            root = np.sqrt(v[r, i] + plus) if inside else np.sqrt(v[r, i]) + plus
            p[r, i] -= step * g[r, i] / root


def _each(rate: LearningRates, parameters: Array) -> Array:
    """Return the rate of each replica (R,), of the dtype of the parameters."""
    every = np.empty(len(parameters), parameters.dtype)
    every[:] = rate[:, 0] if isinstance(rate, np.ndarray) else rate
    return every


def _columns(dtype: Any, rates: NDArray[Any], *options: Any) -> tuple[Array, NDArray[np.float64]]:
    """Return the rates (steps, 1) in a dtype, and the options as columns (steps, 4)."""
    numbers = np.empty((len(rates), len(options)))
    for column, option in enumerate(options):
        numbers[:, column] = option
    return rates.astype(dtype).reshape(-1, 1), numbers


DESCENT, MOMENTUM, ADAM, RMSPROP = range(4)
"""The optimisers of a program, see `program`."""


class ProgramStepper(Stepper[Any]):
    """An optimiser that a program may run: `program_kind` is one of those above."""

    program_kind: int

    def program_state(self) -> tuple[Array, Array]:
        """Return the two flat arrays of the state of one network; an unused one is any array."""
        raise NotImplementedError

    def program_steps(self, rates: NDArray[Any]) -> tuple[Array, NDArray[np.float64]]:
        """Count steps with these learning rates, and return the factor (steps, 1) and the numbers
        (steps, 4) with which `program.updates.update` makes each."""
        raise NotImplementedError


class FusedSGDStepper(SGDStepper, ProgramStepper):
    """SGD in one pass."""

    @property
    def program_kind(self) -> int:  # type: ignore[override]
        """Momentum has a velocity."""
        return DESCENT if self.velocity is None else MOMENTUM

    def program_state(self) -> tuple[Array, Array]:
        """Return the velocity."""
        used = self.scratch if self.velocity is None else self.velocity
        return used[0], used[0]

    def program_steps(self, rates: NDArray[Any]) -> tuple[Array, NDArray[np.float64]]:
        """Count steps, of which the first is not dampened."""
        optimizer = self.optimizer
        new = np.full(len(rates), 1.0 - optimizer.dampening)
        if not self.steps:
            new[0] = 1.0
        self.steps += len(rates)
        options = optimizer.momentum, new, optimizer.velocity == "rate", optimizer.nesterov
        return _columns(self.scratch.dtype, rates, *options)

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer = self.optimizer
        if self.velocity is None:
            super().step(parameters, gradient, learning_rate)
            return
        self.steps += 1
        new = 1.0 if self.steps == 1 else 1.0 - optimizer.dampening
        sgd(
            parameters,
            gradient,
            self.velocity,
            _each(learning_rate, parameters),
            optimizer.momentum,
            new,
            optimizer.velocity == "rate",
            optimizer.nesterov,
        )


class FusedAdamStepper(AdamStepper, ProgramStepper):
    """Adam in one pass."""

    program_kind = ADAM

    def program_state(self) -> tuple[Array, Array]:
        """Return the moments."""
        return self.mean[0], self.square[0]

    def program_steps(self, rates: NDArray[Any]) -> tuple[Array, NDArray[np.float64]]:
        """Count steps, with the corrections of each."""
        optimizer = self.optimizer
        number = self.steps + 1 + np.arange(len(rates))
        self.steps += len(rates)
        mean, square = (1.0 - beta**number for beta in self.corrected)
        if optimizer.epsilon_added == "after":
            rates, times = rates / mean, 1.0 / square**0.5
        else:
            rates, times = rates * square**0.5 / mean, np.ones(len(rates))
        options = optimizer.beta_1, optimizer.beta_2, times, optimizer.epsilon
        return _columns(self.scratch.dtype, rates, *options)

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer = self.optimizer
        self.steps += 1
        mean_correction, square_correction = (1.0 - beta**self.steps for beta in self.corrected)
        root = square_correction**0.5
        if optimizer.epsilon_added == "after":
            rate, times = learning_rate / mean_correction, 1.0 / root
        else:
            rate, times = learning_rate * root / mean_correction, 1.0
        adam(
            parameters,
            gradient,
            self.mean,
            self.square,
            _each(rate, parameters),
            (optimizer.beta_1, optimizer.beta_2, float(times), optimizer.epsilon),
        )


class FusedRMSpropStepper(RMSpropStepper, ProgramStepper):
    """RMSprop in one pass."""

    program_kind = RMSPROP

    def program_state(self) -> tuple[Array, Array]:
        """Return the mean square."""
        return self.square[0], self.square[0]

    def program_steps(self, rates: NDArray[Any]) -> tuple[Array, NDArray[np.float64]]:
        """Count steps."""
        optimizer = self.optimizer
        self.steps += len(rates)
        options = optimizer.rho, optimizer.epsilon, optimizer.epsilon_added == "inside", 0.0
        return _columns(self.scratch.dtype, rates, *options)

    def step(self, parameters: Array, gradient: Array, learning_rate: LearningRates) -> None:
        """Update the parameters in place."""
        optimizer = self.optimizer
        self.steps += 1
        rmsprop(
            parameters,
            gradient,
            self.square,
            _each(learning_rate, parameters),
            optimizer.rho,
            optimizer.epsilon,
            optimizer.epsilon_added == "inside",
        )


STEPPERS: dict[type[Optimizer], type[Stepper[Any]]] = optimizers.STEPPERS | {
    SGD: FusedSGDStepper,
    Adam: FusedAdamStepper,
    RMSprop: FusedRMSpropStepper,
}
