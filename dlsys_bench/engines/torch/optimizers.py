"""torch's optimisers, for one network and for many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlsys_bench.engines.torch.steps import StepRate
from dlsys_bench.spec import optimizers
from dlsys_bench.spec.recipe import Recipe

# Fused optimisers update all tensors in one pass over memory, where torch has them: a step of
# fashion-mlp with batches of 8 takes 330 us, and 465 us without.
OPTIMIZERS: dict[type[optimizers.Optimizer], Callable[[Any, Any, bool], torch.optim.Optimizer]] = {
    optimizers.SGD: lambda record, parameters, graph: torch.optim.SGD(
        parameters,
        record.learning_rate,
        record.momentum,
        record.dampening,
        nesterov=record.nesterov,
        fused=True,
    ),
    optimizers.Adam: lambda record, parameters, graph: torch.optim.Adam(
        parameters,
        record.learning_rate,
        (record.beta_1, record.beta_2),
        record.epsilon,
        fused=True,
        capturable=graph,
    ),
    optimizers.RMSprop: lambda record, parameters, graph: torch.optim.RMSprop(
        parameters, record.learning_rate, record.rho, record.epsilon, capturable=graph
    ),
}


def optimizer_of(
    record: optimizers.Optimizer, parameters: Iterable[Tensor], *, captured: bool
) -> torch.optim.Optimizer:
    """Create torch's optimiser. If its steps are `captured` in a CUDA graph, it has to know."""
    moved = list(parameters)
    return OPTIMIZERS[type(record)](record, moved, captured and moved[0].is_cuda)


def set_rate(optimizer: torch.optim.Optimizer, rate: StepRate) -> None:
    """Set the learning rate. A tensor on the device is read by each step, there."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ReplicaOptimizer:
    """torch's optimiser on the parameters of R networks, one tensor (R, P). It updates element by
    element, so that the networks do not affect each other.

    If the learning rates differ, the optimiser runs with a rate of one on a tensor of zeros, and
    the result times the rate of each replica is added to its parameters. That is exact for torch's
    version of all OPTIMIZERS, in which the rate only scales the step and enters no average. A
    parameter group for each rate would be exact as well, but would split the parameters into R
    tensors with R updates.
    """

    def __init__(self, parameters: Tensor, recipes: Sequence[Recipe], *, captured: bool) -> None:
        first = recipes[0]
        self.parameters, self.recipes = parameters, recipes
        self.one_rate = all(recipe is first or recipe == first for recipe in recipes)
        self.moved = (
            parameters if self.one_rate else torch.zeros_like(parameters, requires_grad=True)
        )
        record = first.optimizer if self.one_rate else replace(first.optimizer, learning_rate=1.0)
        self.optimizer = optimizer_of(record, [self.moved], captured=captured)

    def rates(self, first: int, steps: int) -> Sequence[float] | Tensor:
        """Return the rates of the steps that follow, to be passed to `step`: (steps,) for all
        replicas, or (steps, R, 1) on the device."""
        if self.one_rate:
            return [self.recipes[0].rate(step) for step in range(first, first + steps)]
        own = [
            [[recipe.rate(step)] for recipe in self.recipes] for step in range(first, first + steps)
        ]
        return torch.tensor(own, dtype=self.parameters.dtype, device=self.parameters.device)

    def step(self, rate: StepRate) -> None:
        """Update the parameters by their gradients."""
        if self.one_rate:
            set_rate(self.optimizer, rate)
            self.optimizer.step()
        else:
            assert isinstance(rate, Tensor)
            self.moved.grad = self.parameters.grad
            self.optimizer.step()
            with torch.no_grad():
                self.parameters.addcmul_(self.moved, rate)
                self.moved.zero_()
        self.parameters.grad = None
