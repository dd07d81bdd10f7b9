"""The training loop. Data go to the device before an epoch, and results come back after it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from dlsys_bench.data import Samples
from dlsys_bench.engines.augmentation import augment
from dlsys_bench.engines.epochs import EpochRun, training_epochs
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.jax.compilation import PROGRAMS, compile_program
from dlsys_bench.engines.jax.layers import JaxTensors
from dlsys_bench.engines.jax.network import JaxNetwork, bare_model
from dlsys_bench.engines.jax.optimizers import OPTIMIZERS, factors, rate_factors
from dlsys_bench.engines.jax.placement import JaxPlacement
from dlsys_bench.engines.jax.steps import StepFeed, TrainingState, bare_recipe, program
from dlsys_bench.engines.jax.updates import LossScaleState, UpdateState
from dlsys_bench.engines.loss_scale import LossScaler
from dlsys_bench.engines.plan import Plan, epoch_batch_sizes
from dlsys_bench.engines.work import is_little
from dlsys_bench.spec.layers import Convolution
from dlsys_bench.spec.recipe import Recipe

# The masks of a plan go to the device for this many steps at a time, since those of an epoch may
# take gigabytes.
MASKED_AT_ONCE = 16

# The array of an epoch's losses has a length of at least this, and a power of two. The exact number
# of steps would otherwise be part of every program.
FEWEST_PLACES = 64


@functools.lru_cache(PROGRAMS)
def _shuffler(samples: int) -> Callable[[Array], Array]:
    """Compile key -> a random order of the samples.

    Optimisations would save 0.02 seconds in 60,000 samples, and take 0.6 to compile.
    """
    compiled: Callable[[Array], Array] = compile_program(
        lambda key: jax.random.permutation(key, samples).astype(jnp.int32)
    )
    return compiled


def _initial_state(net: JaxNetwork, placement: JaxPlacement, recipe: Recipe) -> UpdateState:
    """Return what updates change, before the first of them."""
    slots = range(OPTIMIZERS[type(recipe.optimizer)].slots(recipe.optimizer))
    memory = {
        name: tuple(placement.put(np.zeros(t.shape)) for _ in slots)
        for name, t in net.parameters.items()
    }
    averages = (
        {}
        if recipe.average is None
        else {name: placement.put(np.zeros(t.shape)) for name, t in net.parameters.items()}
    )
    scaling = None
    if recipe.loss_scale is not None:
        scale = placement.put(recipe.loss_scale.initial, np.float32)
        scaling = LossScaleState(scale, *(placement.put(0, np.int32) for _ in range(3)))
    return UpdateState(net.parameters, memory, averages, scaling)


class Training:
    """A training, one epoch at a time. After every step the network is given the new arrays, since
    its former ones were donated to the step."""

    def __init__(
        self, net: JaxNetwork, samples: Samples, placement: JaxPlacement, recipe: Recipe, plan: Plan
    ) -> None:
        self.net, self.placement, self.recipe, self.plan = net, placement, recipe, plan
        self.samples, self.inputs = len(samples.x), samples.x
        self.x, self.y = (
            placement.inputs(net.model, samples.x),
            placement.targets(recipe.loss, samples.y),
        )
        self.order_key, self.drop_key = (
            placement.key(plan.seed, "order"),
            placement.key(plan.seed, "dropout"),
        )
        self.epochs = list(epoch_batch_sizes(self.samples, recipe, plan))
        self.places = max(FEWEST_PLACES, 1 << (max(map(len, self.epochs)) - 1).bit_length())
        model = bare_model(net.model)
        # Inside a while_loop, XLA's CPU compiler computes the gradients of a convolution with plain
        # loops, three times as slowly.
        looped = placement.device.platform != "cpu" or not any(
            isinstance(layer, Convolution) for layer in model.layers
        )
        self.given = plan.parity and any(row.mask is not None for row in model.table)
        self.at_once = (MASKED_AT_ONCE if self.given else self.places) if looped else 1
        work = sum(map(sum, self.epochs)), sum(map(len, self.epochs))
        fast = placement.device.platform == "cpu" and is_little(model, *work)
        self.programs = {
            size: program(model, bare_recipe(recipe), size, looped, fast)
            for size in {size for sizes in self.epochs for size in sizes}
        }
        updated = _initial_state(net, placement, recipe)
        self.scaler = None if recipe.loss_scale is None else LossScaler(recipe.loss_scale)
        self.done, self.skipped = 0, 0
        self.progress = self._opened(updated, net.state, sound=False)
        # Compile before the clock of the first epoch starts, by steps that change nothing because
        # `sound` is false.
        feed = self._feed(1, 1)
        for size in self.programs:
            self._advance(size, feed, 1)

    def _opened(
        self, updated: UpdateState, state: JaxTensors, *, sound: bool = True
    ) -> TrainingState:
        """Return the state at the start of an epoch. Each field is a new array, since none may be
        donated twice."""
        losses, fine = (
            self.placement.put(np.zeros(self.places)),
            self.placement.put(sound, np.bool_),
        )
        right, step, seen = (self.placement.put(0, np.int32) for _ in range(3))
        if updated.scaling is not None:
            skipped, before = (self.placement.put(np.zeros(n), np.int32) for n in ((), self.places))
            scaling = updated.scaling._replace(skipped=skipped, before=before)
            updated = updated._replace(scaling=scaling)
        return TrainingState(updated, state, losses, right, step, seen, fine)

    def _feed(self, epoch: int, steps: int) -> StepFeed:
        """Return what the steps of an epoch read."""
        recipe, made = self.recipe, self.done - self.skipped
        scale = recipe.loss_scale
        counted = self.done if scale is None or scale.schedule_counts == "batches" else made
        if self.plan.parity or not self.recipe.shuffle:
            order = self.placement.put(
                self.plan.order(epoch, self.samples, self.recipe.shuffle), np.int32
            )
        else:
            order = _shuffler(self.samples)(jax.random.fold_in(self.order_key, epoch))
        return StepFeed(
            self.x,
            self.y,
            order,
            self._filled(rate_factors(recipe, counted, steps)),
            self._filled(factors(recipe.optimizer, made, steps)),
            self.placement.put(made == 0, np.bool_),
            jax.random.fold_in(self.drop_key, epoch),
            {},
        )

    def _filled(self, table: NDArray[np.float64]) -> Array:
        """Return a table (steps, k) on the device, with a row for each place."""
        rest = np.zeros((self.places - len(table), table.shape[1]))
        return self.placement.put(np.concatenate([table, rest]))

    def _masks(self, size: int, steps: int) -> dict[int, Array]:
        """Return what the next steps keep by the plan, (at_once, size, ...). Entries past these
        steps are never read."""
        if not self.given:
            return {}
        each = [self.plan.masks(self.net.model, self.done + step, size) for step in range(steps)]
        each += [each[-1]] * (self.at_once - steps)
        return {
            index: self.placement.put(np.stack([masks[index] for masks in each]), np.bool_)
            for index in each[0]
        }

    def _advance(self, size: int, feed: StepFeed, steps: int) -> None:
        """Make some updates on batches of one size."""
        feed = feed._replace(masks=self._masks(size, steps))
        self.progress = self.programs[size](self.progress, feed, np.int32(steps))
        self.net.parameters, self.net.state = self.progress.updated.parameters, self.progress.state

    def run(self, epoch: EpochRun) -> tuple[NDArray[np.float64], int]:
        """Train an epoch. Returns the loss of each batch and the number of correct answers, which
        are read from the device once, at the end."""
        self.progress = self._opened(*self.progress[:2])
        if self.recipe.augment:
            own = augment(self.inputs, self.recipe, self.plan, epoch.number)
            self.x = self.placement.inputs(self.net.model, own)
        feed = self._feed(epoch.number, len(epoch.sizes))
        if epoch.weights is not None:
            epoch.used = np.array(feed.order)
        for size, batches in itertools.groupby(epoch.sizes):
            left = len(list(batches))
            while left:
                steps = min(left, self.at_once)
                self._advance(size, feed, steps)
                self.done, left = self.done + steps, left - steps
        self._count_skipped(epoch)
        if self.recipe.average is not None and self.done > self.skipped:
            # The next epoch goes on from the weights in `progress`.
            self.net.parameters = {
                name: jnp.copy(each) for name, each in self.progress.updated.averages.items()
            }
        # Sliced by numpy: a slice of an array of jax is a program for every length.
        losses = np.array(self.progress.losses, np.float64)[: len(epoch.sizes)]
        return losses, int(self.progress.right)

    def _count_skipped(self, epoch: EpochRun) -> None:
        """Count the updates of an epoch that were skipped, before each step if the schedule leaves
        them out."""
        scaler, scaling = self.scaler, self.progress.updated.scaling
        if scaler is None or scaling is None:
            return
        before, skipped = np.array(scaling.before)[: len(epoch.sizes)], int(scaling.skipped)
        if scaler.record.schedule_counts == "updates":
            epoch.uncounted = (self.skipped + before).tolist()
        for count in np.diff(before, append=skipped).tolist():
            scaler.update(finite=not count)
        self.skipped += skipped


def fit_network(
    net: JaxNetwork, samples: Samples, placement: JaxPlacement, recipe: Recipe, plan: Plan
) -> Generator[Epoch]:
    """Train one network, and yield every epoch. Raises DivergedError; parameters and state are then
    those from before that batch."""
    with placement.inside():
        training = Training(net, samples, placement, recipe, plan)
    for epoch in training_epochs(net.model, samples, recipe, plan):
        # Only while an epoch trains: the caller may want numbers of another width.
        with placement.inside():
            losses, correct = training.run(epoch)
        epoch.add_all(losses.tolist(), correct)
        if training.scaler is not None:
            training.scaler.require_scale(epoch)
        yield epoch.end()
