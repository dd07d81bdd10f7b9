"""The samples that each update of a native training uses, inferred from the weights that move.

What a row of the kernel becomes depends only on the updates in which its sample is used (see
`rows`). Before anything is inferred from movement, `check_movement`
establishes that every row can move, and by how much, and `check_repeats` that one seed gives one
order.

With a schedule, one training shows every epoch: every update has its own learning rate, which the
factor of a row's movement reveals. Without one, the training is repeated with one update more at a
time, and each row is compared with what the rule of the optimiser makes of it with and without its
sample.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.checks.rows import (
    KERNEL,
    MOST_USES,
    RowTraining,
    diagnose_uses,
    row_gradients,
)
from dlsys_bench.conformance.checks.support import example_loss, has, require_slope, supported
from dlsys_bench.conformance.checks.training import differing, plans
from dlsys_bench.conformance.checks.usage_by_step import batches_by_step
from dlsys_bench.conformance.diagnosis import explain_first_update
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close, refining
from dlsys_bench.conformance.oracle.optimizers import updated
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import count_of
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

SCHEDULED = ("schedule", "optimizer:sgd", "loss:mean_squared_error")
"""What an engine needs for a whole epoch to be seen in one training."""
UNSCALED_EPOCHS = 6
"""The number of epochs up to which no row reaches its target by the largest learning rates."""


def batches(trial: Trial, job: RowTraining) -> list[NDArray[np.intp]]:
    """Return, for each epoch, the index of the batch in which each sample was used.

    Raises BrokenError if a row moves as no update of its sample alone can, and names the mistake if
    it is a common one. Raises NotApplicableError if rows stay where their samples are right.
    """
    require_slope(example_loss(trial))
    if has(trial, *SCHEDULED):
        return _by_schedule(trial, job)
    return list(batches_by_step(trial, job))


def check_movement(trial: Trial, count: int) -> None:
    """Raise BrokenError unless an update with every sample moves every row as it should."""
    job, loss = RowTraining(count, count, 1, trial.seed), example_loss(trial)
    recipe = Recipe(SGD(0.1), batch_size=count, epochs=1, shuffle=False, loss=loss)
    recipe = supported(trial, recipe)
    rate = recipe.optimizer.learning_rate
    for plan in plans(trial):
        case = job.training(recipe, plan)
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
        case = RowTraining(30, 2, 1, seed).training(recipe, Plan(seed, steps=10))
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
    case = job.training(recipe, Plan(job.seed))
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
    job = factors.job
    wrong = np.flatnonzero(~_is_one_of(moved, factors.once))
    if not wrong.size:
        nearest: NDArray[np.intp] = np.abs(moved[:, None] - factors.once).argmin(axis=1)
        return nearest
    where = f"epoch {epoch}, batches of {job.size}"
    unused = np.abs(moved[wrong] - 1) < 1e-6
    explained = [*factors.several, factors.in_a_whole_last, 1.0]
    if not _is_one_of(moved, np.array(explained)).all():
        what = f"{where}: row {wrong[0]} moves as no update of its sample alone can"
        raise broken(Fault.WRONG_VALUE, what, tensor=KERNEL)
    what = f"{where}: {count_of(int(unused.sum()), 'sample')} of {job.count} not used"
    more = wrong.size - int(unused.sum())
    what += f", {more} in a wrong batch or more than once" if more else ""
    fault, diagnosis = diagnose_uses(int(unused.sum()), more, job)
    raise broken(fault, what, tensor=KERNEL, diagnosis=diagnosis)


def _is_one_of(moved: Array, factors: Array) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(moved[:, None] - factors).min(axis=1) <= 1e-4
    return near
