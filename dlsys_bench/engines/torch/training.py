"""The training loop of one network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial

import torch
from torch import Tensor

from dlsys_bench.data import Samples
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.epochs import EpochRun, training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.torch.layout import TorchInputs, TorchPlacement, copy_inputs
from dlsys_bench.engines.torch.modules import TorchNetwork
from dlsys_bench.engines.torch.optimizers import NetworkOptimizer
from dlsys_bench.engines.torch.passes import BatchPass, pass_of
from dlsys_bench.engines.torch.precision import product_precision, rounded_products
from dlsys_bench.engines.torch.random import RandomState
from dlsys_bench.engines.torch.steps import Recorder, StepRate, TorchMasks, make_steps
from dlsys_bench.engines.torch.updates import CLIPS, MovingAverages, batch_parts, sum_of
from dlsys_bench.spec.recipe import Recipe


def fit_network(
    net: TorchNetwork,
    samples: Samples,
    placement: TorchPlacement,
    recipe: Recipe,
    plan: Plan,
    recorder: Recorder | None,
    compiler: Callable[[BatchPass], BatchPass],
) -> Generator[Epoch]:
    """Train one network, and yield every epoch. Raises DivergedError at the end of an epoch."""
    x, y = placement.x(net.model, samples.x), placement.y(recipe.loss, samples.y)
    tensors = {name: tensor for name, tensor in net.tensors.items() if tensor.requires_grad}
    if recipe.loss_scale is not None:
        recorder = None  # Python decides whether an update is skipped.
    captured = recorder is not None
    optimizer = NetworkOptimizer(
        recipe.optimizer, tensors, captured=captured, loss_scale=recipe.loss_scale
    )
    run_pass, parameters = compiler(pass_of(net, recipe.loss)), list(tensors.values())
    averages = MovingAverages(recipe.average, parameters)

    def update(
        x: TorchInputs, y: Tensor, masks: TorchMasks, rate: StepRate
    ) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        losses, right = [], []
        for part in batch_parts(recipe, x, y, masks):
            loss, correct = run_pass(part.x, part.y, part.masks)
            value = part.weigh(loss)
            optimizer.scale(value).backward()  # type: ignore[no-untyped-call]
            losses.append(value.detach())
            right.append(correct)
        finite = optimizer.unscale()
        if recipe.clip is not None:
            CLIPS[type(recipe.clip)](recipe.clip, parameters)
        optimizer.step(rate)
        if finite:
            averages.update()
        return sum_of(losses), sum_of(right)

    steps, random = make_steps(update, x, y, recorder), RandomState(placement.device, plan.seed)

    def train_epoch(epoch: EpochRun) -> None:
        net.train()
        if recipe.augment:
            # In place, because a recorded step reads this memory.
            own = placement.x(net.model, augment(samples.x, recipe, plan, epoch.number))
            copy_inputs(own, x)
        order = _order(epoch, placement)
        if epoch.weights is not None:
            epoch.used = order.cpu().numpy()
        masks = partial(_masks, epoch, placement)
        ended = steps.epoch(order, epoch.sizes, epoch.rates, masks)
        # The losses are read once an epoch, here, so that no step waits for the device.
        epoch.add_all(ended.losses.double().tolist(), int(ended.right))
        if optimizer.scale_state is not None:
            optimizer.scale_state.require_scale(epoch)

    try:
        for epoch in training_epochs(net.model, samples, recipe, plan):
            averages.resume()
            precision = product_precision(placement.products)
            with random.active(), precision, rounded_products(net, recipe.products):
                train_epoch(epoch)
            averages.publish()
            yield epoch.end()
    finally:
        # The network would otherwise keep the gradients, which lie in the memory of a graph.
        optimizer.zero_grad()


def _masks(epoch: EpochRun, placement: TorchPlacement, batch: int) -> dict[int, Tensor]:
    return placement.masks(epoch.model, epoch.masks(batch))


def _order(epoch: EpochRun, placement: TorchPlacement) -> Tensor:
    if epoch.plan.parity:
        return torch.from_numpy(epoch.order()).to(placement.device)
    draw = torch.randperm if epoch.recipe.shuffle else torch.arange
    return draw(epoch.samples, device=placement.device)
