"""The samples of R replicas on the device, and the order in which each is trained on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dlsys_bench.engines.alignment import StackedSamples
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.torch.layout import TorchInputs, TorchPlacement, copy_inputs
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class BatchFeed:
    """The samples of all replicas, joined along the first axis of x and y. If replicas differ in
    samples or order, `own` is true and an order is (R, N); otherwise it is (N,)."""

    def __init__(
        self,
        samples: StackedSamples,
        placement: TorchPlacement,
        model: Model,
        recipe: Recipe,
        plans: Sequence[Plan],
    ) -> None:
        self.count, self.device, self.plans = samples.samples, placement.device, plans
        self.placement = placement
        self.shuffle, self.own = recipe.shuffle, recipe.shuffle or not samples.shared
        x = placement.x(model, samples.x, samples.leading)
        y = placement.y(recipe.loss, samples.y)
        self.x = _joined(x, samples)
        self.y = y if samples.shared else y.flatten(0, 1)
        # Where the samples of each replica begin in x and y.
        each = torch.arange(len(plans), device=placement.device)[:, None]
        self.begin = each * (0 if samples.shared else self.count)
        # A generator per replica, so that its order is that of a single network with its seed.
        self.generators = [
            torch.Generator(placement.device).manual_seed(plan.seed) for plan in plans
        ]

    def set_x(self, model: Model, samples: StackedSamples) -> None:
        """Replace the inputs, in place, because a recorded step reads this memory."""
        there = self.placement.x(model, samples.x, samples.leading)
        copy_inputs(_joined(there, samples), self.x)

    def order(self, epoch: int) -> Tensor:
        """Return the indices of the samples in x and y in the order of an epoch."""
        if not self.own:
            return torch.arange(self.count, device=self.device)
        if not self.shuffle:
            return self.begin + torch.arange(self.count, device=self.device)
        if self.plans[0].parity:
            orders = torch.from_numpy(
                np.stack([plan.order(epoch, self.count) for plan in self.plans])
            ).to(self.device)
        else:
            draws = [
                torch.randperm(self.count, generator=own, device=self.device)
                for own in self.generators
            ]
            orders = torch.stack(draws)
        return self.begin + orders


def _joined(x: TorchInputs, samples: StackedSamples) -> TorchInputs:
    """Return inputs with the samples of all replicas along the first axis."""
    return x if samples.shared else tuple(each.flatten(0, 1) for each in x)
