"""Training of R networks as one program."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dlsys_bench.data import Samples
from dlsys_bench.engines.alignment import (
    StackedSamples,
    augment_replicas,
    check_plans,
    has_replica_axis,
    recipes_for_replicas,
    stack_samples,
)
from dlsys_bench.engines.epochs import EpochRun, training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Array, Plan, require_batches
from dlsys_bench.engines.replicas import OneByOne, Replicas, fit_one_by_one
from dlsys_bench.engines.targets import check_targets
from dlsys_bench.engines.torch.batches import BatchFeed
from dlsys_bench.engines.torch.layout import TorchInputs, channel_last
from dlsys_bench.engines.torch.losses import count_correct, loss_function
from dlsys_bench.engines.torch.optimizers import ReplicaOptimizer
from dlsys_bench.engines.torch.precision import product_precision, rounded_products
from dlsys_bench.engines.torch.random import RandomState
from dlsys_bench.engines.torch.stacked import StackedNetworks
from dlsys_bench.engines.torch.steps import StepRate, TorchMasks, make_steps
from dlsys_bench.engines.torch.updates import REPLICA_CLIPS, MovingAverages, batch_parts, sum_of
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from dlsys_bench.engines.torch.engine import TorchEngine

# As many samples are predicted at a time as keep the largest layer of all replicas below this.
PREDICTED_BYTES = 64 * 2**20


class TorchReplicas(Replicas):
    """R networks under torch.vmap. The gradient of the sum of their losses contains the gradient of
    each.

    A replica starts from the weights, and shuffles in the order, of a single network with its plan.
    Dropout without parity is drawn for all replicas at once, seeded by the seeds of all, so it
    depends on which replicas there are. A replica that fails is restored to the start of that
    epoch, since the losses are read at its end. The first plan decides on parity and on the limit
    of steps.
    """

    def __init__(self, engine: TorchEngine, models: Sequence[Model], plans: Sequence[Plan]) -> None:
        super().__init__(len(plans))
        self.engine = engine
        self.model = models[0]
        self.nets = StackedNetworks(models, plans, engine.placement)

    def fit(
        self,
        samples: Samples | Sequence[Samples],
        recipes: Recipe | Sequence[Recipe],
        plans: Sequence[Plan],
    ) -> Generator[Sequence[Epoch | None]]:
        """Train, and yield every epoch."""
        check_plans(plans, self.size)
        every, parts = recipes_for_replicas(recipes, self.size), stack_samples(samples, self.size)
        self.engine.check(every[0])
        for replica in range(1 if parts.shared else self.size):
            check_targets(every[0].loss, parts.of(replica).y, self.model.output_shape)
        require_batches(self.model, parts.samples, every[0], plans[0])
        if every[0].loss_scale is not None:
            # Each replica skips updates of its own.
            single = OneByOne.of(self, self.engine, self.model, plans)
            yield from fit_one_by_one(self, single, self.nets.load, samples, every, plans)
            return
        seeds = np.random.SeedSequence([plan.seed for plan in plans])
        random = RandomState(self.engine.device, int(seeds.generate_state(1, np.uint64)[0]))
        averages = MovingAverages(every[0].average, [self.nets.parameters])
        train_epoch = self._training(parts, every, plans, averages)
        self.failures = {}
        for epoch in training_epochs(self.model, parts, every[0], plans[0]):
            averages.resume()
            before = self.nets.copy()
            precision = product_precision(self.engine.products)
            with random.active(), precision, rounded_products(self.nets.net, every[0].products):
                train_epoch(epoch)
            # Those that failed are trained on with the others, and restored after every epoch.
            self.nets.restore(list(self.failures), before)
            if len(self.failures) == self.size:
                break
            averages.publish()
            yield epoch.end_replicas(every, self.failures)

    def _training(
        self,
        samples: StackedSamples,
        recipes: Sequence[Recipe],
        plans: Sequence[Plan],
        averages: MovingAverages,
    ) -> Callable[[EpochRun], None]:
        """Return a function that trains all replicas for an epoch and records their losses."""
        nets, recipe, recorder = self.nets, recipes[0], self.engine.recorder()
        loss_of = loss_function(recipe.loss)
        # The first epoch states which samples the replicas share.
        first = augment_replicas(samples, recipe, plans, 1)
        source = BatchFeed(first, self.engine.placement, self.model, recipe, plans)
        stepper = ReplicaOptimizer(
            nets.parameters,
            recipes,
            nets.decaying(recipe.optimizer.decay),
            captured=recorder is not None,
        )

        def update(
            x: TorchInputs, y: Tensor, masks: TorchMasks, rate: StepRate
        ) -> tuple[Tensor, Tensor]:
            losses, right = [], []
            for part in batch_parts(recipe, x, y, masks, axis=int(source.own), mask_axis=1):
                values, outputs = nets.losses(loss_of, part.x, part.y, source.own, part.masks)
                values = part.weigh(values)
                values.sum().backward()  # type: ignore[no-untyped-call]
                losses.append(values.detach())
                counted = count_correct(recipe.loss, outputs.detach(), part.y, replicas=True)
                right.append(counted)
            if recipe.clip is not None:
                assert nets.parameters.grad is not None
                REPLICA_CLIPS[type(recipe.clip)](recipe.clip, nets.parameters.grad)
            stepper.step(rate)
            averages.update()
            return sum_of(losses), sum_of(right)

        steps = make_steps(update, source.x, source.y, recorder)

        def train_epoch(epoch: EpochRun) -> None:
            if recipe.augment:
                source.set_x(self.model, augment_replicas(samples, recipe, plans, epoch.number))
            masks = partial(self._masks, plans, epoch)
            rates = stepper.rates(epoch.first, len(epoch.sizes))
            order = source.order(epoch.number)
            if epoch.weights is not None:
                epoch.used = (order - source.begin if source.own else order).cpu().numpy()
            ended = steps.epoch(order, epoch.sizes, rates, masks)
            # The losses are read once an epoch, here, so that no step waits for the device.
            for losses in ended.losses.double().cpu().numpy():
                epoch.add_replicas(losses, 0, self.failures)
            epoch.correct = ended.right.cpu().numpy()

        return train_epoch

    def _masks(self, plans: Sequence[Plan], epoch: EpochRun, batch: int) -> dict[int, Tensor]:
        if not plans[0].parity:
            return {}
        step, size = epoch.first + batch, epoch.sizes[batch]
        each = [plan.masks(self.model, step, size) for plan in plans]
        return self.engine.placement.masks(
            self.model, {place: np.stack([masks[place] for masks in each]) for place in each[0]}
        )

    def predict(self, x: Array) -> Array:
        """Compute the outputs outside training."""
        own = has_replica_axis(x, self.model)
        largest = max(int(np.prod(shape)) for shape in self.model.shapes) * self.size
        at_once = max(1, PREDICTED_BYTES // (largest * np.dtype(self.engine.dtype).itemsize))
        axis = 1 if own else 0
        outputs = np.empty((self.size, x.shape[axis], *self.model.output_shape), self.engine.dtype)
        for first in range(0, x.shape[axis], at_once):
            here = slice(first, first + at_once)
            there = self._x(x[:, here] if own else x[here])
            with product_precision(self.engine.products):
                (found,) = self.nets.outputs(there, own)
            outputs[:, here] = channel_last(found, self.model.output_shape)
        return outputs

    def trace(self, x: Array) -> list[Array]:
        """Compute the output of every layer."""
        with product_precision(self.engine.products):
            found = self.nets.outputs(self._x(x), has_replica_axis(x, self.model), every=True)
        shapes = self.model.output_shapes
        return [channel_last(*each).copy() for each in zip(found, shapes, strict=True)]

    def _x(self, x: Array) -> TorchInputs:
        """Put x on the device, (N, ...) for all replicas or (R, N, ...)."""
        leading = 2 if has_replica_axis(x, self.model) else 1
        return self.engine.placement.x(self.model, x, leading)

    def weights(self, replica: int) -> dict[str, Array]:
        """Copy all tensors by name."""
        return self.nets.weights(replica)
