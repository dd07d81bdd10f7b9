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

# Fused where torch has it: one pass over memory. fashion-mlp at batch 8 takes 330 us a step by it,
# 465 without.
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
    """Torch's own. `captured`: its steps are recorded, of which on CUDA it has to know."""
    moved = list(parameters)
    return OPTIMIZERS[type(record)](record, moved, captured and moved[0].is_cuda)


def set_rate(optimizer: torch.optim.Optimizer, rate: StepRate) -> None:
    """From now on. A rate on the device is read there, at each step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ReplicaOptimizer:
    """Moves R networks, one leaf (R, P), by torch's own optimiser: element by element, so each goes
    its own way.

    Where the rates differ, the optimiser runs at a rate of one on zeros beside the parameters, and
    each replica goes its rate times what these come to. That is exact: in all of OPTIMIZERS,
    torch's way, the rate scales the step that the gradients came to and enters no average. A group
    of parameters for each rate would be exact too, but a sweep has as many rates as replicas, and R
    leaves are R programs again.
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
        """The rates of so many steps, for `step`: (steps,) of all, or (steps, R, 1) on the
        device."""
        if self.one_rate:
            return [self.recipes[0].rate(step) for step in range(first, first + steps)]
        own = [
            [[recipe.rate(step)] for recipe in self.recipes] for step in range(first, first + steps)
        ]
        return torch.tensor(own, dtype=self.parameters.dtype, device=self.parameters.device)

    def step(self, rate: StepRate) -> None:
        """Follow the gradient that the parameters have."""
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
