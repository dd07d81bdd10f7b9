"""The training loop of R networks at a time; usually of one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import StackedSamples, augment_replicas
from dlsys_bench.engines.epochs import EpochRun, training_epochs
from dlsys_bench.engines.history import ReplicaEpoch
from dlsys_bench.engines.numpy.batches import BatchSource
from dlsys_bench.engines.numpy.losses import total_weight
from dlsys_bench.engines.numpy.network import Network
from dlsys_bench.engines.numpy.optimizers import Stepper
from dlsys_bench.engines.numpy.shards import ShardPass, run_shards, run_whole
from dlsys_bench.engines.numpy.subnormals import subnormals_flushed
from dlsys_bench.engines.numpy.threads import one_thread
from dlsys_bench.engines.numpy.trainer import Trainer
from dlsys_bench.engines.numpy.updates import NetworkUpdate
from dlsys_bench.engines.plan import Array, Plan, batch_slices
from dlsys_bench.errors import DivergedError
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.recipe import Recipe

Masks = Sequence[Mapping[int, NDArray[np.bool_]]]
"""What each dropout layer keeps, by its place, of every replica."""


class RuleTrainer(Trainer):
    """The training of R replicas by the rules of their layers, one step after another."""

    def __init__(
        self,
        net: Network,
        samples: StackedSamples,
        recipes: Sequence[Recipe],
        plans: Sequence[Plan],
        stepper: Stepper[Any],
    ) -> None:
        self.net, self.samples, self.recipe, self.plans = net, samples, recipes[0], plans
        self.update = NetworkUpdate(net, self.recipe, stepper)
        self.source, self.rates = BatchSource(samples, net), _rates(recipes, net.dtype)
        self.kept: dict[int, tuple[Array, Array]] = {}

    def train(
        self,
        epoch: EpochRun,
        order: NDArray[np.intp] | None,
        failures: dict[int, DivergedError],
    ) -> None:
        """Train an epoch."""
        net, samples, recipe, plans = self.net, self.samples, self.recipe, self.plans
        update, rates = self.update, self._rate
        update.resume()
        if recipe.augment:
            own = augment_replicas(samples, recipe, plans, epoch.number)
            self.source = BatchSource(own, net)
        for step, here in enumerate(batch_slices(epoch.sizes), start=epoch.first):
            before = net.state.copy()
            losses, correct = _pass(
                net, self.source, order, here, recipe, plans, step, update.scale
            )
            epoch.uncounted.append(update.uncounted)
            for lost in epoch.add_replicas(losses, correct, failures):
                self.kept[lost] = net.parameters[lost].copy(), before[lost]
            if len(failures) == net.replicas:
                return
            update.step(rates(step))
            if update.scaler is not None and (error := update.scaler.error(epoch)):
                failures[0] = error
                return
        update.publish()

    def _rate(self, step: int) -> float | Array:
        """Return the learning rate of a step, before which updates may have been skipped."""
        return self.rates(step - self.update.uncounted)

    def restore(self) -> None:
        """Restore the replicas that diverged."""
        for replica, (parameters, state) in self.kept.items():
            self.net.parameters[replica], self.net.state[replica] = parameters, state


def fit_replicas(
    net: Network,
    samples: StackedSamples,
    recipes: Sequence[Recipe],
    plans: Sequence[Plan],
    failures: dict[int, DivergedError],
) -> Generator[ReplicaEpoch]:
    """Train R replicas, and yield every epoch. A replica whose loss becomes non-finite is added to
    `failures`; when the training ends it gets back the weights of its last finite batch."""
    recipe = recipes[0]
    stepper = net.rule_set.steppers[type(recipe.optimizer)](recipe.optimizer, net.parameters)
    net.seed([plan.seed for plan in plans])
    trainer = net.rule_set.compile_program(net, samples, recipes, plans, stepper)
    trainer = trainer or RuleTrainer(net, samples, recipes, plans, stepper)
    try:
        for epoch in training_epochs(net.model, samples, recipe, plans[0]):
            epoch.used = order = _orders(plans, epoch.number, samples.samples, recipe.shuffle)
            # An overflow shows in the loss, where it is reported.
            ignoring = np.errstate(over="ignore", invalid="ignore", divide="ignore")
            with one_thread(), subnormals_flushed(), ignoring:
                trainer.train(epoch, order, failures)
            if len(failures) == net.replicas:
                return
            yield epoch.end_replicas(recipes, failures)
        net.set_masks(None)
    finally:
        trainer.restore()


def _pass(
    net: Network,
    source: BatchSource,
    order: NDArray[np.intp] | None,
    here: slice,
    recipe: Recipe,
    plans: Sequence[Plan],
    step: int,
    scale: float | None,
) -> tuple[Array, Array]:
    """Fill the gradient with that of a batch, times the loss scale if there is one. Returns the
    mean loss (R,) and the number of correct answers (R,)."""
    samples = here.stop - here.start
    masks = [plan.masks(net.model, step, samples) for plan in plans] if plans[0].parity else None
    parts = list(batch_slices(recipe.micro_batches(samples)))
    if len(parts) == 1:
        return _micro_pass(net, source, order, here, recipe.loss, masks, scale)
    gradient = np.zeros_like(net.gradient)
    losses, correct = np.zeros(net.replicas), np.zeros(net.replicas)
    places = [slice(here.start + part.start, here.start + part.stop) for part in parts]
    shares = _shares(recipe.loss, [source.targets(order, place) for place in places])
    for part, place, share in zip(parts, places, shares, strict=True):
        own = _part(masks, part)
        loss, right = _micro_pass(net, source, order, place, recipe.loss, own, scale)
        net.gradient *= share.astype(net.dtype).reshape(-1, 1)
        gradient += net.gradient
        losses, correct = losses + share * loss, correct + right
    net.gradient[...] = gradient
    return losses, correct


def _micro_pass(
    net: Network,
    source: BatchSource,
    order: NDArray[np.intp] | None,
    here: slice,
    loss: Loss,
    masks: Masks | None,
    scale: float | None,
) -> tuple[Array, Array]:
    """Fill the gradient with that of a part of a batch, which is trained in shards if it is
    large."""
    samples = here.stop - here.start
    parts = net.shard_slices(samples)
    nets = net.shards(len(parts))
    places = [slice(here.start + part.start, here.start + part.stop) for part in parts]
    shares: Sequence[Array | None] = [None]
    if len(places) > 1:
        shares = _shares(loss, [source.targets(order, place) for place in places])
    passes = [
        _shard(own, source, order, place, loss, share, scale)
        for own, place, share in zip(nets, places, shares, strict=True)
    ]
    for own, part in zip(nets, parts, strict=True):
        own.set_masks(_part(masks, part))
    found = run_shards(passes, net.rule_set.barrier) if len(passes) > 1 else [run_whole(passes[0])]
    for own in nets[1:]:
        net.gradient += own.gradient
    (value, correct), *others = found
    for other_value, other_correct in others:
        value, correct = value + other_value, correct + other_correct
    return value, correct


def _part(masks: Masks | None, part: slice) -> Masks | None:
    """Return the masks of a part of a batch."""
    return masks and [{place: kept[part] for place, kept in one.items()} for one in masks]


def _shard(
    net: Network,
    source: BatchSource,
    order: NDArray[np.intp] | None,
    here: slice,
    loss: Loss,
    share: Array | None,
    scale: float | None,
) -> ShardPass[tuple[Array, Array]]:
    """Train one shard of a batch, whose mean loss contains this share (R,) of that of the shard;
    None if the shard is the batch. Returns its contribution to the mean loss and its number of
    correct answers."""
    x, y = source.batch(order, here, net.shard)
    whole = share is None
    outputs = net.forward(x, training=True) if whole else (yield from net.forward_shard(x))
    values, dy, found = net.rule_set.evaluate_loss(loss, outputs, y)
    right = np.zeros(net.replicas) if found is None else found
    if scale is not None:
        dy *= scale
    if share is None:
        net.backward(dy)
        return values, right
    share = share.astype(dy.dtype)
    dy *= share.reshape(-1, *(1 for _ in dy.shape[1:]))
    yield from net.backward_shard(dy)
    return values * share, right


def _shares(loss: Loss, parts: Sequence[NDArray[Any]]) -> list[Array]:
    """Return the share (R,) of each part in the mean loss of a batch, from its targets."""
    weights = [total_weight(loss, y) for y in parts]
    whole = np.sum(weights, axis=0)
    return [weight / np.where(whole > 0, whole, 1) for weight in weights]


def _orders(
    plans: Sequence[Plan], epoch: int, samples: int, shuffle: bool
) -> NDArray[np.intp] | None:
    """Return the order of each replica's samples (R, N), or None if they are not shuffled."""
    return np.stack([plan.order(epoch, samples) for plan in plans]) if shuffle else None


def _rates(recipes: Sequence[Recipe], dtype: np.dtype[Any]) -> Callable[[int], float | Array]:
    """Return a function of the step: the learning rate of all replicas, or of each, (R, 1)."""
    if all(recipe is recipes[0] for recipe in recipes):
        return recipes[0].rate
    return lambda step: np.array([[recipe.rate(step)] for recipe in recipes], dtype)
