"""Training R networks as one program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dlsys_bench.data import Samples
from dlsys_bench.engines.alignment import Stack, aligned, check_plans, is_own, stack
from dlsys_bench.engines.base import check_targets
from dlsys_bench.engines.histories import Column, Histories
from dlsys_bench.engines.plan import Array, Plan, epochs_of
from dlsys_bench.engines.replicas import OnReplicas, Replicas
from dlsys_bench.engines.torch.batches import Source
from dlsys_bench.engines.torch.layout import channel_last
from dlsys_bench.engines.torch.losses import LOSSES, hits
from dlsys_bench.engines.torch.optimizers import Stepper
from dlsys_bench.engines.torch.precision import computing
from dlsys_bench.engines.torch.stacked import Stacked
from dlsys_bench.engines.torch.steps import Masks, Rate, launching
from dlsys_bench.engines.torch.training import check_last_batch
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from dlsys_bench.engines.torch.engine import TorchEngine

# Samples are predicted so many at a time that the largest layer of all replicas stays below this.
PREDICTED_BYTES = 64 * 2**20


class TorchReplicas(Replicas):
    """R networks under torch.vmap. The gradient of the sum of their losses holds each one's own.

    A replica starts as its plan does alone, and without dropout shuffles as it does alone. Unless
    the plans say what to drop, dropout is drawn for all at once, seeded by the seeds of all: it
    depends on the company. A replica that fails goes back to what it had at the start of that
    epoch, since the losses are read at its end. The first plan says whether there is parity, and
    where to stop.
    """

    def __init__(self, engine: TorchEngine, models: Sequence[Model], plans: Sequence[Plan]) -> None:
        super().__init__(len(plans))
        self.engine = engine
        self.model = models[0]
        self.nets = Stacked(models, plans, engine.home)

    def fit(
        self,
        samples: Samples | Sequence[Samples],
        recipes: Recipe | Sequence[Recipe],
        plans: Sequence[Plan],
        on_epoch: OnReplicas | None = None,
    ) -> Histories:
        check_plans(plans, self.size)
        every, parts = aligned(recipes, self.size), stack(samples, self.size)
        self.engine.check(every[0])
        for replica in range(1 if parts.shared else self.size):
            check_targets(every[0].loss, parts.of(replica).y, self.model.output_shape)
        check_last_batch(self.model, parts.samples, every[0], plans[0])
        # Dropout draws from torch's global generator: seed it for this training only.
        with torch.random.fork_rng(devices=[0] if self.engine.device == "cuda" else []):
            seeds = np.random.SeedSequence([plan.seed for plan in plans])
            torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
            return self._train(parts, every, plans, on_epoch)

    def _train(
        self,
        samples: Stack,
        recipes: Sequence[Recipe],
        plans: Sequence[Plan],
        on_epoch: OnReplicas | None,
    ) -> Histories:
        nets, recipe, recorder = self.nets, recipes[0], self.engine.recorder()
        source = Source(samples, self.engine.home, recipe, plans)
        stepper = Stepper(nets.parameters, recipes, captured=recorder is not None)

        def update(x: Tensor, y: Tensor, masks: Masks, rate: Rate) -> tuple[Tensor, Tensor]:
            values, outputs = nets.losses(LOSSES[type(recipe.loss)], x, y, source.own, masks)
            values.sum().backward()  # type: ignore[no-untyped-call]
            stepper.step(rate)
            return values.detach(), hits(recipe.loss, outputs.detach(), y)

        steps = launching(update, source.x, source.y, recorder)
        histories, self.failures = Histories(self.size), {}
        step = 0
        for epoch, sizes in enumerate(epochs_of(samples.samples, recipe, plans[0]), start=1):
            started = time.perf_counter()
            before = nets.copy()
            masks = partial(self._masks, plans, step, sizes)
            with computing(self.engine.products):
                ended = steps.epoch(
                    source.order(epoch), sizes, stepper.rates(step, len(sizes)), masks
                )
            step += len(sizes)
            # The device is asked once an epoch, here, so that no step waits for it.
            found, correct = ended.losses.double().cpu().numpy(), ended.right.cpu().numpy()
            seconds, seen = (time.perf_counter() - started) / self.size, sum(sizes)
            broken = ~np.isfinite(found)
            for lost in sorted(
                set(np.flatnonzero(broken.any(axis=0)).tolist()) - set(self.failures)
            ):
                batch = int(broken[:, lost].argmax())
                self.failures[lost] = DivergedError(epoch, batch + 1, float(found[batch, lost]))
                histories.end(lost)
            # Those that failed are stepped on with the others, and taken back every epoch.
            nets.restore(list(self.failures), before)
            if len(self.failures) == self.size:
                break
            accuracies = None if recipe.loss.targets == "values" else correct / seen
            by_step = list(found) if recipe.moves else []
            histories.add(
                Column(
                    epoch, step, seconds, sizes @ found / seen, accuracies, recipes, sizes, by_step
                )
            )
            if on_epoch is not None:
                on_epoch(histories.last())
        return histories

    def _masks(
        self, plans: Sequence[Plan], first: int, sizes: Sequence[int], step: int
    ) -> dict[int, Tensor]:
        if not plans[0].parity:
            return {}
        each = [plan.masks(self.model, first + step, sizes[step]) for plan in plans]
        return self.engine.home.masks(
            {place: np.stack([masks[place] for masks in each]) for place in each[0]}
        )

    def predict(self, x: Array) -> Array:
        own = is_own(x, self.model)
        largest = max(int(np.prod(shape)) for shape in self.model.shapes) * self.size
        at_once = max(1, PREDICTED_BYTES // (largest * np.dtype(self.engine.dtype).itemsize))
        axis = 1 if own else 0
        outputs = np.empty((self.size, x.shape[axis], *self.model.output_shape), self.engine.dtype)
        for first in range(0, x.shape[axis], at_once):
            here = slice(first, first + at_once)
            with computing(self.engine.products):
                (found,) = self.nets.outputs(
                    self.engine.home.x(x[:, here] if own else x[here]), own
                )
            outputs[:, here] = channel_last(found)
        return outputs

    def trace(self, x: Array) -> list[Array]:
        with computing(self.engine.products):
            found = self.nets.outputs(self.engine.home.x(x), is_own(x, self.model), every=True)
        return [channel_last(output).copy() for output in found]

    def weights(self, replica: int) -> dict[str, Array]:
        return self.nets.weights(replica)
