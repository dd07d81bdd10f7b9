"""The training loop of one network, and what an epoch comes to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlsys_bench.engines.base import OnEpoch
from dlsys_bench.engines.epochs import Epoch, History
from dlsys_bench.engines.plan import Plan, epochs_of
from dlsys_bench.engines.torch.layout import Home
from dlsys_bench.engines.torch.losses import LOSSES, hits
from dlsys_bench.engines.torch.modules import Net
from dlsys_bench.engines.torch.optimizers import optimizer_of, set_rate
from dlsys_bench.engines.torch.precision import computing
from dlsys_bench.engines.torch.steps import Masks, Rate, Recorder, launching
from dlsys_bench.errors import DivergedError, EngineError
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def train(
    net: Net,
    x: Tensor,
    y: Tensor,
    home: Home,
    recipe: Recipe,
    plan: Plan,
    on_epoch: OnEpoch | None,
    recorder: Recorder | None,
) -> History:
    """Train one network. Errors: DivergedError, at the end of the epoch."""
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

    steps = launching(update, x, y, recorder)
    step, history = 0, []
    # Dropout draws from torch's global generator: seed it for this training only.
    with torch.random.fork_rng(devices=[0] if home.device == "cuda" else []):
        torch.manual_seed(plan.seed)
        for epoch, sizes in enumerate(epochs_of(len(x), recipe, plan), start=1):
            net.train()
            started = time.perf_counter()
            rates = [recipe.rate(step + here) for here in range(len(sizes))]
            masks = partial(_masks, net.model, home, plan, step, sizes)
            with computing(home.products):
                ended = steps.epoch(_order(epoch, len(x), home, recipe, plan), sizes, rates, masks)
            step += len(sizes)
            # The device is asked once an epoch, here, so that no step waits for it.
            found, correct = ended.losses.double().cpu().numpy(), int(ended.right)
            seconds = time.perf_counter() - started
            record = epoch_of(epoch, step, seconds, found, correct, sizes, recipe, rates)
            history.append(record)
            if on_epoch is not None:
                on_epoch(record)
    # What a graph has left there would keep its memory for as long as there is the network.
    optimizer.zero_grad()
    return history


def _masks(
    model: Model, home: Home, plan: Plan, first: int, sizes: Sequence[int], step: int
) -> dict[int, Tensor]:
    return home.masks(plan.masks(model, first + step, sizes[step])) if plan.parity else {}


def _order(epoch: int, samples: int, home: Home, recipe: Recipe, plan: Plan) -> Tensor:
    if plan.parity:
        return torch.from_numpy(plan.order(epoch, samples, recipe.shuffle)).to(home.device)
    draw = torch.randperm if recipe.shuffle else torch.arange
    return draw(samples, device=home.device)


def epoch_of(
    epoch: int,
    step: int,
    seconds: float,
    losses: NDArray[Any],
    correct: int,
    sizes: list[int],
    recipe: Recipe,
    rates: Sequence[float],
) -> Epoch:
    """The running means of an epoch from the loss of each batch. Errors: DivergedError where one is
    not finite."""
    broken = np.flatnonzero(~np.isfinite(losses))
    if broken.size:
        raise DivergedError(epoch, int(broken[0]) + 1, float(losses[broken[0]]))
    seen = sum(sizes)
    accuracy = None if recipe.loss.targets == "values" else correct / seen
    by_step = (
        {"learning_rate": list(rates), "batch_size": list(sizes), "loss": losses.tolist()}
        if recipe.moves
        else None
    )
    return Epoch(epoch, step, seconds, float(losses @ sizes / seen), accuracy, by_step=by_step)


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
