"""torch's optimisers, for one network and for many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dlsys_bench.engines.loss_scale import LossScaler
from dlsys_bench.engines.torch.steps import StepRate
from dlsys_bench.spec import optimizers
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.loss_scale import LARGEST, LossScale
from dlsys_bench.spec.recipe import Recipe


def is_decoupled(decay: WeightDecay | None) -> bool:
    """Return whether there is a decoupled weight decay."""
    return decay is not None and decay.coupling == "decoupled"


ADAM = {False: torch.optim.Adam, True: torch.optim.AdamW}
"""torch's optimiser of Adam, without and with a decoupled weight decay."""

# Fused optimisers update all tensors in one pass over memory, where torch has them: a step of
# fashion-mlp with batches of 8 takes 330 us, and 465 us without.
OPTIMIZERS: dict[type[optimizers.Optimizer], Callable[[Any, Any, bool], torch.optim.Optimizer]] = {
    optimizers.SGD: lambda record, groups, graph: torch.optim.SGD(
        groups,
        record.learning_rate,
        record.momentum,
        record.dampening,
        nesterov=record.nesterov,
        fused=True,
    ),
    optimizers.Adam: lambda record, groups, graph: ADAM[is_decoupled(record.decay)](
        groups,
        record.learning_rate,
        (record.beta_1, record.beta_2),
        record.epsilon,
        fused=True,
        capturable=graph,
    ),
    optimizers.RMSprop: lambda record, groups, graph: torch.optim.RMSprop(
        groups, record.learning_rate, record.rho, record.epsilon, capturable=graph
    ),
}

OWN_DECAY = (optimizers.Adam,)
"""The optimisers of which torch has a version with a decoupled weight decay."""


class NetworkOptimizer:
    """torch's optimiser on the tensors of one network, by name; those that decay are a group of
    parameters. Where torch has no decoupled decay, the tensors shrink before the step, as in
    torch's AdamW. If its steps are `captured` in a CUDA graph, torch has to know. `scale_state` is
    the loss scale on the host, which has bounds, if there is one."""

    def __init__(
        self,
        record: optimizers.Optimizer,
        parameters: Mapping[str, Tensor],
        *,
        captured: bool,
        loss_scale: LossScale | None = None,
    ) -> None:
        self.parameters, self.finite = list(parameters.values()), True
        decay = record.decay
        decaying = {
            name: tensor
            for name, tensor in parameters.items()
            if decay is not None and decay.applies(name, tensor.ndim)
        }
        others = [tensor for name, tensor in parameters.items() if name not in decaying]
        own = is_decoupled(decay) and not isinstance(record, OWN_DECAY)
        self.shrinking = list(decaying.values()) if own else []
        self.decay = decay.rate if decay is not None else 0.0
        groups = [
            {"params": tensors, "weight_decay": rate}
            for tensors, rate in (
                (others, 0.0),
                (list(decaying.values()), 0.0 if own else self.decay),
            )
            if tensors
        ]
        on_device = captured and next(iter(parameters.values())).is_cuda
        self.optimizer = OPTIMIZERS[type(record)](record, groups, on_device)
        self.scaler = _grad_scaler(loss_scale, self.parameters[0].device.type)
        self.scale_state = None if loss_scale is None else LossScaler(loss_scale)

    def scale(self, loss: Tensor) -> Tensor:
        """Return a loss times the loss scale, if there is one."""
        return self.scaler.scale(loss)

    def unscale(self) -> bool:
        """Divide the gradients by the loss scale, and return whether the update will be made."""
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
            # GradScaler checks this too, but has no public result.
            finite = [
                each.grad.isfinite().all() for each in self.parameters if each.grad is not None
            ]
            self.finite = bool(torch.stack(finite).all())
        return self.finite

    def step(self, rate: StepRate) -> None:
        """Update the parameters by their gradients, unless these are not finite under a loss
        scale."""
        set_rate(self.optimizer, rate)
        if self.shrinking and self.finite:
            with torch.no_grad():
                for tensor in self.shrinking:
                    tensor.mul_(1 - rate * self.decay)
        if self.finite:
            # Left to GradScaler, fused SGD starts from a velocity in uninitialised memory after a
            # first update that overflows (torch 2.13).
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scale_state is not None:
            self.scale_state.update(self.finite)
            if self.scale_state.scale == LARGEST:
                self.scaler.update(LARGEST)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()


def _grad_scaler(record: LossScale | None, device: str) -> torch.amp.GradScaler:
    """Return torch's loss scaling by a record; one that does nothing without a record."""
    if record is None:
        return torch.amp.GradScaler(device, enabled=False)
    factors = record.initial, record.growth, record.backoff, record.interval
    return torch.amp.GradScaler(device, *factors)


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

    Since not all of a row may decay, and an optimiser on zeros knows no weights, the weight decay
    is made here: of the entries where `decaying` (P,) is one.
    """

    def __init__(
        self,
        parameters: Tensor,
        recipes: Sequence[Recipe],
        decaying: Tensor,
        *,
        captured: bool,
    ) -> None:
        first = recipes[0]
        self.parameters, self.recipes = parameters, recipes
        self.one_rate = all(recipe is first or recipe == first for recipe in recipes)
        self.moved = (
            parameters if self.one_rate else torch.zeros_like(parameters, requires_grad=True)
        )
        self.decay, record = first.optimizer.decay, replace(first.optimizer, decay=None)
        self.decaying = decaying * self.decay.rate if self.decay else decaying
        record = record if self.one_rate else replace(record, learning_rate=1.0)
        self.optimizer = NetworkOptimizer(record, {"": self.moved}, captured=captured)

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
        self._decay(rate)
        if self.one_rate:
            self.optimizer.step(rate)
        else:
            assert isinstance(rate, Tensor)
            self.moved.grad = self.parameters.grad
            self.optimizer.optimizer.step()
            with torch.no_grad():
                self.parameters.addcmul_(self.moved, rate)
                self.moved.zero_()
        self.parameters.grad = None

    @torch.no_grad()
    def _decay(self, rate: StepRate) -> None:
        if self.decay is None:
            return
        assert self.parameters.grad is not None
        if is_decoupled(self.decay):
            self.parameters.mul_(1 - rate * self.decaying)
        else:
            self.parameters.grad.addcmul_(self.parameters, self.decaying)
