"""The training loop of one network."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial

import torch
from torch import Tensor

from dlsys_bench.engines.epochs import Epoch, EpochRun, training_epochs
from dlsys_bench.engines.plan import Plan, epochs_of
from dlsys_bench.engines.torch.layout import Home
from dlsys_bench.engines.torch.losses import LOSSES, hits
from dlsys_bench.engines.torch.modules import Net
from dlsys_bench.engines.torch.optimizers import optimizer_of, set_rate
from dlsys_bench.engines.torch.precision import computing
from dlsys_bench.engines.torch.random import RandomState
from dlsys_bench.engines.torch.steps import Masks, Rate, Recorder, launching
from dlsys_bench.errors import EngineError
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def fit_network(
    net: Net,
    x: Tensor,
    y: Tensor,
    home: Home,
    recipe: Recipe,
    plan: Plan,
    recorder: Recorder | None,
) -> Generator[Epoch]:
    """Train one network, and yield every epoch. Raises DivergedError at the end of an epoch."""
    optimizer = optimizer_of(recipe.optimizer, net.parameters(), captured=recorder is not None)
    loss_of = LOSSES[type(recipe.loss)]

    def update(x: Tensor, y: Tensor, masks: Masks, rate: Rate) -> tuple[Tensor, Tensor]:
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        outputs = net(x, masks)
        value = loss_of(outputs, y)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return value.detach(), hits(recipe.loss, outputs.detach(), y)

    steps, random = launching(update, x, y, recorder), RandomState(home.device, plan.seed)

    def train_epoch(epoch: EpochRun) -> None:
        net.train()
        order = _order(epoch, home)
        masks = partial(_masks, epoch, home)
        ended = steps.epoch(order, epoch.sizes, epoch.rates, masks)
        # The losses are read once an epoch, here, so that no step waits for the device.
        epoch.add_all(ended.losses.double().tolist(), int(ended.right))

    try:
        for epoch in training_epochs(net.model, len(x), recipe, plan):
            with random.active(), computing(home.products):
                train_epoch(epoch)
            yield epoch.end()
    finally:
        # The network would otherwise keep the gradients, which lie in the memory of a graph.
        optimizer.zero_grad()


def _masks(epoch: EpochRun, home: Home, batch: int) -> dict[int, Tensor]:
    return home.masks(epoch.masks(batch))


def _order(epoch: EpochRun, home: Home) -> Tensor:
    if epoch.plan.parity:
        return torch.from_numpy(epoch.order()).to(home.device)
    draw = torch.randperm if epoch.recipe.shuffle else torch.arange
    return draw(epoch.samples, device=home.device)


def check_last_batch(model: Model, samples: int, recipe: Recipe, plan: Plan) -> None:
    """Torch refuses to normalise a batch of one value per channel; say so before the epoch is
    spent."""
    alone = any(1 in sizes for sizes in epochs_of(samples, recipe, plan))
    for name, layer, shape in zip(model.names, model.layers, model.shapes, strict=False):
        if alone and isinstance(layer, BatchNorm) and math.prod(shape[:-1]) == 1:
            raise EngineError(
                f'engine "torch" cannot normalise a batch of one sample ({name}): {samples} samples in batches of '
                f"{recipe.batch_size} leave one over; choose another batch size"
            )
