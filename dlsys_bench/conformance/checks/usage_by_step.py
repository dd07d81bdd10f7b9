"""The samples of each update, inferred from trainings that end one update later each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.checks.rows import (
    KERNEL,
    MOST_USES,
    RowTraining,
    diagnose_uses,
    row_gradients,
)
from dlsys_bench.conformance.checks.support import example_loss, supported
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.oracle.optimizers import OracleState, updated
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.errors import count_of
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

_Uses = tuple[list[Array], list[OracleState]]
"""What the rows become in one update, by the number of times that their samples are used, and the
optimiser's state."""


def batches_by_step(trial: Trial, job: RowTraining) -> Iterator[NDArray[np.intp]]:
    """Yield, for each epoch, the index of the batch in which each sample was used, as inferred from
    trainings that end one update later each time."""
    loss = example_loss(trial)
    # Adam moves a row by about the rate in every update, and it must not reach its target.
    recipe = Recipe(SGD(0.005), batch_size=job.size, epochs=job.epochs, loss=loss)
    recipe = supported(trial, recipe)
    training = job.training(recipe, Plan(job.seed))
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
        fault, diagnosis = diagnose_uses(unused, more, job)
        raise broken(fault, what, tensor=KERNEL, diagnosis=diagnosis)
    places: NDArray[np.intp] = used.argmax(axis=0)
    return places
