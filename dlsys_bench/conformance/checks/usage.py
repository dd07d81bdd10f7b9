"""The samples that each update of a native training uses, inferred from the weights that move.

Sample i is the unit vector i, so row i of the only kernel moves by the gradient of sample i alone.
All samples have the same target and all rows the same start, so what a row becomes depends only on
the updates in which its sample is used. Before anything is inferred from movement, `check_movement`
establishes that every row can move, and by how much, and `check_repeats` that one seed gives one
order.

With a schedule, one training shows every epoch: every update has its own learning rate, which the
factor of a row's movement reveals. Without one, the training is repeated with one update more at a
time, and each row is compared with what the rule of the optimiser makes of it with and without its
sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.checks.support import example_loss, has, require_slope, supported
from dlsys_bench.conformance.checks.training import (
    differing,
    plans,
)
from dlsys_bench.conformance.diagnosis import explain_first_update
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close, refining
from dlsys_bench.conformance.oracle.losses import loss_value
from dlsys_bench.conformance.oracle.optimizers import OracleState, updated
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import count_of
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

KERNEL = "dense_1.kernel"
SCHEDULED = ("schedule", "optimizer:sgd", "loss:mean_squared_error")
"""What an engine needs for a whole epoch to be seen in one training."""
UNSCALED_EPOCHS = 6
"""The number of epochs up to which no row reaches its target by the largest learning rates."""
MOST_USES = 4
"""The number of times that a sample may be used in one update and is still recognised."""


@dataclass(frozen=True)
class RowTraining:
    """A native training of `count` samples by `size`, in which every sample has its own row."""

    count: int
    size: int
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        """The number of updates in an epoch."""
        return -(-self.count // self.size)

    @property
    def sizes(self) -> Array:
        """The size of each batch of an epoch."""
        sizes = np.full(self.steps, self.size)
        sizes[-1] = self.count - self.size * (self.steps - 1)
        return sizes

    def training(self, trial: Trial, recipe: Recipe, plan: Plan) -> TrainingCase:
        """Return the training, which starts from equal rows."""
        loss = recipe.loss
        start = np.repeat(start_row(loss), self.count, axis=0)
        model = Model("order", (self.count,), (Dense(start.shape[1], use_bias=False),))
        samples = Samples(np.eye(self.count), common_targets(loss, self.count))
        return TrainingCase(model, {KERNEL: start}, samples, recipe, plan)


def start_row(loss: Loss) -> Array:
    """Return a row (1, outputs) of a kernel at which the loss of its sample has a slope."""
    outputs = 2 if loss.targets == "labels" else 1
    # The losses of signs have a kink at zero.
    return np.full((1, outputs), -1e-3 if loss.targets == "signs" else 0.0)


def common_targets(loss: Loss, count: int) -> NDArray[Any]:
    """Return equal targets for samples."""
    if loss.targets == "labels":
        return np.zeros(count, int)
    return np.ones(count, int) if loss.targets == "signs" else np.ones((count, 1))


def batches(trial: Trial, job: RowTraining) -> list[NDArray[np.intp]]:
    """Return, for each epoch, the index of the batch in which each sample was used.

    Raises BrokenError if a row moves as no update of its sample alone can, and names the mistake if
    it is a common one. Raises NotApplicableError if rows stay where their samples are right.
    """
    require_slope(example_loss(trial))
    if has(trial, *SCHEDULED):
        return _by_schedule(trial, job)
    return list(_by_step(trial, job))


def check_movement(trial: Trial, count: int) -> None:
    """Raise BrokenError unless an update with every sample moves every row as it should."""
    job, loss = RowTraining(count, count, 1, trial.seed), example_loss(trial)
    recipe = Recipe(SGD(0.1), batch_size=count, epochs=1, shuffle=False, loss=loss)
    recipe = supported(trial, recipe)
    rate = recipe.optimizer.learning_rate
    for plan in plans(trial):
        case = job.training(trial, recipe, plan)
        rows = case.weights[KERNEL]
        expected = updated(recipe.optimizer, rows, row_gradients(loss, rows) / count, rate, 1, {})
        actual = case.run(trial.engine)[KERNEL]
        allowed = max(trial.tolerance, 1e-5) * magnitude(expected - rows)
        found = explain_first_update({KERNEL: actual}, {KERNEL: expected}, case.weights, allowed)
        what = f"row after an update with all of {count} samples, each of which has its own row"
        with refining(partial(replace, **found)):
            close(what, actual, expected, allowed, tensor=KERNEL, origin=rows)


def check_repeats(trial: Trial, seed: int) -> None:
    """Raise BrokenError unless two native trainings with one seed end with equal weights."""
    loss = example_loss(trial)
    recipe = supported(trial, Recipe(SGD(0.1), batch_size=2, epochs=1, loss=loss))

    def repeats(seed: int) -> bool:
        case = RowTraining(30, 2, 1, seed).training(trial, recipe, Plan(seed, steps=10))
        return not differing(case.run(trial.engine), case.run(trial.engine))

    if repeats(seed):
        return
    if seed == 0 and repeats(1):
        what = "two trainings with seed 0 take the samples in different orders, and with seed 1 not"
        diagnosis = "seed 0 is treated as no seed"
        raise broken(Fault.SEED_ZERO, what, diagnosis=diagnosis)
    what = f"two trainings with seed {seed} take the samples in different orders"
    raise broken(Fault.NOT_DETERMINISTIC, what)


def _by_schedule(trial: Trial, job: RowTraining) -> list[NDArray[np.intp]]:
    """Infer the batches from the kernel after every epoch, by a different learning rate in each
    step."""
    # The more epochs there are, the less each may move a row, or it would reach its target.
    scale = job.size * min(1.0, UNSCALED_EPOCHS / job.epochs)
    steps = job.steps * job.epochs
    schedule = LearningRateRamp(0.05 * scale, 0.35 * scale, steps, "difference")
    loss = example_loss(trial)
    recipe = Recipe(SGD(0.1), batch_size=job.size, epochs=job.epochs, loss=loss, schedule=schedule)
    recipe = supported(trial, recipe)
    case = job.training(trial, recipe, Plan(job.seed))
    # Each sample has its own target, so that it is noticed if one gets another's.
    targets = 1 + np.arange(job.count)[:, None] / job.count
    network = trial.engine.build(case.model, case.weights)
    remaining: list[Array] = [np.ones(job.count)]
    found = []
    samples = Samples(case.samples.x, targets)
    with closing(trial.engine.fit(network, samples, recipe, case.plan)) as epochs:
        for _ in epochs:
            rows = trial.engine.weights(network)[KERNEL]
            remaining.append((1 - rows / targets)[:, 0])
    if len(remaining) != job.epochs + 1:
        ended = str(len(remaining) - 1)
        what, expected = "the number of epochs that fit yields", str(job.epochs)
        raise broken(Fault.WRONG_STOP, what, actual=ended, expected=expected)
    for epoch in range(job.epochs):
        rates = [schedule.rate(epoch * job.steps + step) for step in range(job.steps)]
        moved = remaining[epoch + 1] / remaining[epoch]
        found.append(_nearest(moved, _Factors(np.array(rates), job), epoch + 1))
    return found


class _Factors:
    """The factors by which the distance of a row to its target shrinks, by its sample's use."""

    def __init__(self, rates: Array, job: RowTraining) -> None:
        self.rates, self.job = rates, job
        self.once = 1 - 2 * rates / job.sizes
        self.in_a_whole_last = 1 - 2 * rates[-1] / job.size
        # What follows from any number of uses in each batch takes too long for many batches.
        counts = range(MOST_USES + 1) if job.steps <= 4 else range(2)
        uses = np.array(list(product(counts, repeat=min(job.steps, 8))), float)
        shrinks = 1 - uses * 2 * (rates / job.sizes)[: uses.shape[1]]
        self.several = [*self.once, *shrinks.prod(axis=1)]


def _nearest(moved: Array, factors: _Factors, epoch: int) -> NDArray[np.intp]:
    """Return the index of the update whose factor each row moved by."""
    wrong = np.flatnonzero(~_is_one_of(moved, factors.once))
    if not wrong.size:
        nearest: NDArray[np.intp] = np.abs(moved[:, None] - factors.once).argmin(axis=1)
        return nearest
    where = f"epoch {epoch}, batches of {factors.job.size}"
    unused = np.abs(moved[wrong] - 1) < 1e-6
    last, job = int(factors.job.sizes[-1]), factors.job
    explained = [*factors.several, factors.in_a_whole_last, 1.0]
    if not _is_one_of(moved, np.array(explained)).all():
        what = f"{where}: row {wrong[0]} moves as no update of its sample alone can"
        raise broken(Fault.WRONG_VALUE, what, tensor=KERNEL)
    what = f"{where}: {count_of(int(unused.sum()), 'sample')} of {job.count} not used"
    more = wrong.size - int(unused.sum())
    what += f", {more} in a wrong batch or more than once" if more else ""
    fault, diagnosis = _name(int(unused.sum()), more, last, job)
    raise broken(fault, what, tensor=KERNEL, diagnosis=diagnosis)


def _name(unused: int, more: int, last: int, job: RowTraining) -> tuple[Fault, str | None]:
    """Return the fault, and the mistake that these numbers of wrong samples suggest."""
    if unused == last < job.size and not more:
        diagnosis = "the smaller last batch of an epoch is dropped"
        return Fault.PARTIAL_BATCH, diagnosis
    if not unused and more and last < job.size:
        return Fault.PARTIAL_BATCH, "the smaller last batch of an epoch is filled up"
    if unused == job.size and not more:
        return Fault.SKIPPED_BATCH, "a batch of the epoch makes no update"
    if unused and more:
        return Fault.WRONG_DISTRIBUTION, "samples are drawn with replacement"
    return Fault.WRONG_VALUE, None


def _is_one_of(moved: Array, factors: Array) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(moved[:, None] - factors).min(axis=1) <= 1e-4
    return near


_Uses = tuple[list[Array], list[OracleState]]
"""What the rows become in one update, by the number of times that their samples are used, and the
optimiser's state."""


def _by_step(trial: Trial, job: RowTraining) -> Iterator[NDArray[np.intp]]:
    """Infer the batches from trainings that end one update later each time."""
    loss = example_loss(trial)
    # Adam moves a row by about the rate in every update, and it must not reach its target.
    recipe = Recipe(SGD(0.005), batch_size=job.size, epochs=job.epochs, loss=loss)
    recipe = supported(trial, recipe)
    training = job.training(trial, recipe, Plan(job.seed))
    rows, state = training.weights[KERNEL], OracleState()
    for epoch in range(job.epochs):
        used = np.zeros((job.steps, job.count), int)
        for step in range(job.steps):
            number = epoch * job.steps + step + 1
            gradient = row_gradients(loss, rows) / job.sizes[step]
            uses = _uses(recipe, rows, gradient, number, state)
            actual = training.stopping_after(number).run(trial.engine)[KERNEL]
            used[step] = _recognised(actual, uses, f"epoch {epoch + 1}, batch {step + 1}")
            state = _chosen(uses[1], used[step])
            rows = np.asarray(actual, np.float64)
        yield _places(used, job, epoch + 1)


def row_gradients(loss: Loss, rows: Array) -> Array:
    """Return the gradient of the loss of each row's sample, of which the row is the output."""
    step, found = 1e-30, np.empty(rows.shape)
    for column in range(rows.shape[1]):
        outputs = rows[:, None].astype(complex)
        outputs[:, 0, column] += 1j * step
        found[:, column] = loss_value(loss, outputs, common_targets(loss, 1)).imag / step
    return found


def _uses(recipe: Recipe, rows: Array, gradient: Array, number: int, state: OracleState) -> _Uses:
    values, states = [], []
    for times in range(MOST_USES + 1):
        own = dict(state)
        rate = recipe.optimizer.learning_rate
        values.append(updated(recipe.optimizer, rows, times * gradient, rate, number, own))
        states.append(own)
    return values, states


def _recognised(actual: Array, uses: _Uses, where: str) -> NDArray[np.intp]:
    """Return how often each sample was used in an update."""
    distance = np.stack([np.abs(actual - values).max(axis=1) for values in uses[0]])
    # Adam makes the same first step of a sample that is used twice, so the fewest uses count.
    near = distance <= 0.1 * np.abs(uses[0][1] - uses[0][0]).max(axis=1)
    times: NDArray[np.intp] = near.argmax(axis=0)
    wrong = np.flatnonzero(~near.any(axis=0))
    if wrong.size:
        what = f"{where}: row {wrong[0]} moves as no update of its sample alone can"
        raise broken(Fault.WRONG_VALUE, what, tensor=KERNEL)
    return times


def _chosen(states: Sequence[OracleState], times: NDArray[np.intp]) -> OracleState:
    """Return the optimiser's state of every row, by how often its sample was used."""
    return {
        name: np.choose(times[:, None], [state[name] for state in states]) for name in states[0]
    }


def _places(used: Array, job: RowTraining, epoch: int) -> NDArray[np.intp]:
    """Return the index of the batch in which each sample was used, once."""
    times = used.sum(axis=0)
    if (times != 1).any():
        unused, more = int((times == 0).sum()), int((times > 1).sum())
        where = f"epoch {epoch}, batches of {job.size}"
        what = f"{where}: {count_of(unused, 'sample')} of {job.count} not used"
        what += f", {more} more than once" if more else ""
        fault, diagnosis = _name(unused, more, int(job.sizes[-1]), job)
        raise broken(fault, what, tensor=KERNEL, diagnosis=diagnosis)
    places: NDArray[np.intp] = used.argmax(axis=0)
    return places
