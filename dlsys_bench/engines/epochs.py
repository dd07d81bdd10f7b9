"""Training epoch by epoch: the bookkeeping that every engine needs.

An engine's `fit` is a generator. Its loop over `training_epochs` supplies the order of the samples,
the batches, the learning rates and the masks of dropout, and turns the loss of each batch into the
figures of the epoch::

    def fit(self, net, samples, recipe, plan):
        for epoch in training_epochs(net.model, len(samples.x), recipe, plan):
            for step in epoch.steps():
                loss, gradients = ...  # of the samples step.chosen
                epoch.add(loss)
                ...  # update the weights with step.learning_rate
            yield epoch.end()
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.alignment import StackedSamples
from dlsys_bench.engines.history import Epoch, Histories, History, ReplicaEpoch, by_step_record
from dlsys_bench.engines.inputs import require_inputs
from dlsys_bench.engines.plan import Plan, epoch_batch_sizes, require_batches, split_order
from dlsys_bench.engines.targets import AnswerWeights, answers_per_sample
from dlsys_bench.errors import DivergedError, EngineError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from dlsys_bench.data import Samples
    from dlsys_bench.engines.replicas import Replicas


class UpdateStep(NamedTuple):
    """One update: its number from 0 since the start of the training, the indices of its samples,
    its learning rate, and in parity mode the keep mask of each dropout layer, by its index."""

    number: int
    chosen: NDArray[np.intp]
    learning_rate: float
    masks: dict[int, NDArray[np.bool_]]


class CountedSamples(NamedTuple):
    """The number of samples, and the weights of their answers unless all weigh the same."""

    number: int
    weights: AnswerWeights | None


class EpochRun:
    """One epoch of a training that is in progress: `number` from 1, the `sizes` of its batches,
    their learning `rates`, and `first`, the number of updates made before it.

    `used` is the order of the samples, (N,) or (R, N), or None for their own. It is set by `order`
    and `steps`, and has to be set by an engine that calls neither, if answers have weights.
    `uncounted` has the number of skipped updates before each batch that the schedule leaves out.
    """

    def __init__(
        self,
        number: int,
        first: int,
        sizes: list[int],
        model: Model,
        samples: CountedSamples,
        recipe: Recipe,
        plan: Plan,
    ) -> None:
        self.number, self.first, self.sizes = number, first, sizes
        self.model, self.samples, self.recipe, self.plan = model, samples.number, recipe, plan
        self.weights = samples.weights
        self.used: NDArray[np.intp] | None = None
        self.rates = [recipe.rate(step) for step in range(first, first + len(sizes))]
        self.losses, self.uncounted = list[Any](), list[int]()
        self.correct: Any = 0
        self.start_clock()

    def start_clock(self) -> None:
        """Count the seconds of the epoch from now on."""
        self.started = time.perf_counter()

    def order(self) -> NDArray[np.intp]:
        """Return the order of the samples by the plan, (N,)."""
        self.used = self.plan.order(self.number, self.samples, self.recipe.shuffle)
        return self.used

    def masks(self, batch: int) -> dict[int, NDArray[np.bool_]]:
        """Return the keep mask of each dropout layer for a batch (from 0) by the plan; nothing if
        the engine draws its own masks."""
        if not self.plan.parity:
            return {}
        return self.plan.masks(self.model, self.first + batch, self.sizes[batch])

    def steps(self, order: NDArray[np.intp] | None = None) -> Iterator[UpdateStep]:
        """Yield the updates of the epoch, in the order of the plan or one of the engine's own."""
        order = self.used = self.order() if order is None else order
        for batch, chosen in enumerate(split_order(order, self.sizes)):
            yield UpdateStep(self.first + batch, chosen, self.rates[batch], self.masks(batch))

    def add(self, loss: float, correct: float = 0) -> None:
        """Record the mean loss of the next batch, and how many of its answers were correct.

        Raises DivergedError if the loss is not finite.
        """
        if not math.isfinite(loss):
            raise DivergedError(self.number, len(self.losses) + 1, loss)
        self.losses.append(loss)
        self.correct += correct

    def add_all(self, losses: Iterable[float], correct: float = 0) -> None:
        """Record the mean loss of every batch, and how many answers were correct in the epoch."""
        for loss in losses:
            self.add(loss)
        self.correct += correct

    def add_replicas(
        self,
        losses: NDArray[Any],
        correct: NDArray[Any] | float,
        failures: dict[int, DivergedError],
    ) -> list[int]:
        """Record the next batch of R replicas: losses (R,) and correct answers (R,).

        A replica whose loss is not finite is added to `failures`. Returns those that are new there.
        """
        self.losses.append(losses)
        self.correct = self.correct + correct
        lost = [r for r in np.flatnonzero(~np.isfinite(losses)).tolist() if r not in failures]
        for replica in lost:
            error = DivergedError(self.number, len(self.losses), float(losses[replica]))
            failures[replica] = error
        return lost

    def end(self) -> Epoch:
        """Return the epoch of one network, with the figures of the batches that were recorded."""
        epoch = self.end_replicas([self.recipe], {})[0]
        assert epoch is not None
        return epoch

    def end_with(
        self, running_loss: float, running_accuracy: float | None, losses: Sequence[float]
    ) -> Epoch:
        """Return the epoch of one network with running figures that a framework computed itself,
        and the loss of each batch."""
        seconds = time.perf_counter() - self.started
        by_step = by_step_record(self.rates, self.sizes, losses) if self.recipe.moves else None
        return Epoch(
            self.number,
            self.first + len(self.sizes),
            seconds,
            running_loss,
            running_accuracy,
            by_step=by_step,
        )

    def mean_loss(self, losses: Sequence[Any]) -> NDArray[Any]:
        """Return the mean of the losses of the batches, each of one network or (R,), weighted by
        the number of samples, or by the weights of the answers where these differ."""
        weights: Sequence[Any] = self.sizes
        if self.weights is not None:
            weights = list(self.weights.by_batch(self.used, self.sizes).weights.T)
        elif self.recipe.loss.is_weighted:
            raise EngineError(
                f"this {self.recipe.loss.kind} ignores labels or weighs classes: training_epochs "
                "then takes the samples, and not their number"
            )
        total = np.zeros(np.broadcast_shapes(*map(np.shape, (*losses[:1], *weights[:1]))))
        for loss, weight in zip(losses, weights, strict=True):
            total += loss * weight
        return fraction(total, sum(weights))

    def _answers(self) -> Any:
        """Return the number of answers of the epoch, of one replica or of each (R,)."""
        if self.weights is None:
            each = answers_per_sample(self.recipe.loss, self.model.output_shape)
            return sum(self.sizes) * each
        return self.weights.by_batch(self.used, self.sizes).kept.sum(axis=1)

    def end_replicas(
        self, recipes: Sequence[Recipe], failures: Mapping[int, DivergedError]
    ) -> ReplicaEpoch:
        """Return the epoch of R replicas. The seconds of each are its share of the time."""
        seconds = (time.perf_counter() - self.started) / len(recipes)
        steps, shape = self.first + len(self.sizes), (len(recipes),)
        accuracies = None
        if self.recipe.loss.targets != "values":
            accuracies = np.broadcast_to(fraction(self.correct, self._answers()), shape)
        return ReplicaEpoch(
            self.number,
            steps,
            seconds,
            np.broadcast_to(self.mean_loss(self.losses), shape),
            accuracies,
            recipes,
            self.sizes,
            self.losses if any(recipe.moves for recipe in recipes) else [],
            frozenset(failures),
            self.uncounted,
        )


def fraction(sums: Any, counts: Any) -> NDArray[Any]:
    """Return sums / counts, or zero where nothing was counted."""
    found: NDArray[Any] = np.zeros(np.broadcast_shapes(np.shape(sums), np.shape(counts)))
    np.divide(sums, counts, out=found, where=np.asarray(counts) > 0)
    return found


def training_epochs(
    model: Model, samples: int | Samples | StackedSamples, recipe: Recipe, plan: Plan
) -> Iterator[EpochRun]:
    """Yield every epoch of a training on `samples`. The clock of an epoch starts when it is
    yielded, so it does not run while the caller of `fit` works.

    The number of samples suffices unless the loss ignores labels or weighs classes.
    Raises DataError unless x fits the model, and BatchError if a batch is too small for a layer.
    """
    if not isinstance(samples, int):
        leading = samples.leading if isinstance(samples, StackedSamples) else 1
        require_inputs(model, samples.x, leading)
    require_batches(model, _counted(samples, recipe).number, recipe, plan)
    yield from epoch_runs(model, samples, recipe, plan)


def epoch_runs(
    model: Model, samples: int | Samples | StackedSamples, recipe: Recipe, plan: Plan
) -> Iterator[EpochRun]:
    """Yield every epoch as `training_epochs` does, of batches of any size."""
    recipe.require_inputs(model)
    steps, counted = 0, _counted(samples, recipe)
    for number, sizes in enumerate(epoch_batch_sizes(counted.number, recipe, plan), 1):
        yield EpochRun(number, steps, sizes, model, counted, recipe, plan)
        steps += len(sizes)


def _counted(samples: int | Samples | StackedSamples, recipe: Recipe) -> CountedSamples:
    """Return the number of samples, and the weights of their answers if these are known."""
    if isinstance(samples, int):
        return CountedSamples(samples, None)
    count, shared = len(samples.y), True
    if isinstance(samples, StackedSamples):
        count, shared = samples.samples, samples.shared
    return CountedSamples(count, AnswerWeights.of(recipe.loss, samples.y, shared))


def train(engine: Any, net: Any, samples: Samples, recipe: Recipe, plan: Plan) -> History:
    """Train a network to the end of the recipe, and return its epochs. Raises DivergedError."""
    with closing(engine.fit(net, samples, recipe, plan)) as epochs:
        return list(epochs)


@contextlib.contextmanager
def closing(found: Iterable[Epoch]) -> Iterator[Iterator[Epoch]]:
    """Iterate over the epochs that `Engine.fit` returned, and end the training on exit.

    By its interface `fit` is a generator. The epochs of an engine that returns another iterable,
    such as a list, are the same, but its training cannot be ended early. Raises EngineError if
    there are no epochs.
    """
    try:
        epochs = iter(found)
    except TypeError:
        raise EngineError(
            f"fit returned {type(found).__name__}: it has to be a generator of epochs"
        ) from None
    try:
        yield _checked(epochs)
    finally:
        if close := getattr(epochs, "close", None):
            close()


def _checked(epochs: Iterator[object]) -> Iterator[Epoch]:
    """Yield the epochs. Raises EngineError if there are none, or if one is something else."""
    empty = True
    for epoch in epochs:
        if not isinstance(epoch, Epoch):
            raise EngineError(f"fit yielded {type(epoch).__name__}: it has to yield an Epoch")
        yield epoch
        empty = False
    if empty:
        raise EngineError("fit yielded no epoch: the engine has trained nothing")


def train_replicas(
    replicas: Replicas,
    samples: Samples | Sequence[Samples],
    recipes: Recipe | Sequence[Recipe],
    plans: Sequence[Plan],
) -> Histories:
    """Train all replicas to the end of their recipes, and return the history of each."""
    return Histories(replicas.size, replicas.fit(samples, recipes, plans))
