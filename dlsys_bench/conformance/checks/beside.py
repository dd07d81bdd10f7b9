"""The order, the targets and the masks of native trainings that have one part more than the
plainest.

An engine often trains by other code as soon as a recipe has a part such as accumulation, or a model
has inputs of another kind, and that code has to shuffle and to drop units too. As in `rows`, each
sample moves one row of the last kernel. The optimiser has momentum, so what a row becomes in an
epoch shows in which update its sample was used, whatever the learning rates are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.rows import common_targets, start_row
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import example_loss, has, require_slope, supported
from dlsys_bench.conformance.checks.training_parts import (
    COUNT,
    DROP_RATE,
    EPOCHS,
    PARTS,
    PLAIN,
    TrainingPart,
)
from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.conformance.oracle.losses import loss_value
from dlsys_bench.conformance.oracle.optimizers import OracleState, updated
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import closing
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.errors import NotApplicableError, count_of
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


class PartTraining(NamedTuple):
    """A native training: its model, its recipe, the targets and the start of the rows, and whether
    it drops samples."""

    model: Model
    kernel: str
    recipe: Recipe
    samples: Samples
    start: Array
    drops: bool

    @classmethod
    def of(cls, trial: Trial, part: TrainingPart, drops: bool) -> PartTraining:
        """Return the training of a part, as far as the engine has what it consists of."""
        loss = example_loss(trial, part.loss) if part.loss else example_loss(trial)
        require_slope(loss)
        recipe = supported(trial, replace(PLAIN, loss=loss, **part.options))
        start = np.repeat(start_row(loss), COUNT, axis=0)
        model = supported(trial, part.kind.model(start.shape[1], drops))
        kernel = model.tensors[-1].name
        samples = Samples(part.kind.x, _targets(loss))
        return cls(model, kernel, recipe, samples, start, drops)

    def rows(self, trial: Trial, seed: int) -> Iterator[Array]:
        """Train, and yield the rows of the samples after each epoch."""
        weights: Weights = {tensor.name: np.zeros(tensor.shape) for tensor in self.model.tensors}
        weights[self.kernel][:COUNT] = self.start
        network = trial.engine.build(self.model, weights)
        plan = Plan(seed)
        with closing(trial.engine.fit(network, self.samples, self.recipe, plan)) as epochs:
            for _ in epochs:
                yield np.asarray(trial.engine.weights(network)[self.kernel][:COUNT], np.float64)

    def gradients(self, rows: Array) -> Array:
        """Return the gradient of the loss of each sample with respect to its row, (..., COUNT,
        outputs) as the rows. What dropout keeps is doubled."""
        factor, step = 1 / (1 - DROP_RATE) if self.drops else 1.0, 1e-30
        found = np.empty(rows.shape)
        for sample, column in product(range(COUNT), range(rows.shape[-1])):
            outputs = factor * rows[:, sample][:, None].astype(complex)
            outputs.imag[..., column] = factor * step
            value = loss_value(self.recipe.loss, outputs, self.samples.y[sample : sample + 1])
            found[:, sample, column] = value.imag / step
        return found


def _targets(loss: Loss) -> NDArray[Any]:
    """Return the targets of the samples. Each is another one where the loss takes values, and
    neighbours have different labels."""
    numbers = np.arange(COUNT)
    if loss.targets == "values":
        return 1 + numbers[:, None] / COUNT
    if loss.targets == "signs":
        return common_targets(loss, COUNT)
    return numbers % 2 if loss.targets == "labels" else numbers[:, None] % 2


TOLERANCE = 2e-3
"""The difference that is allowed of a row, of the largest movement in the epoch. The movements in
two batches differ by at least ten times that."""
UNUSED = -1
"""In place of the index of a batch: the sample moved its row in no batch of the epoch."""


def _inferred(trial: Trial, training: PartTraining, seed: int) -> Iterator[NDArray[np.intp]]:
    """Yield the index of the batch in which each sample moved its row, for each epoch.

    Raises BrokenError if a row moves as no update of its sample alone can, and NotApplicableError
    if the optimiser moves it alike in several batches.
    """
    recipe, number = training.recipe, 0
    # The state of the optimiser, the rows, and what a network has of them at the end of an epoch.
    state: OracleState = {"rows": training.start, "network": training.start}
    # `shapes/history` judges the number of epochs, of which an engine may yield more.
    ends_of_epochs = zip(training.rows(trial, seed), recipe.sizes(COUNT), strict=False)
    for epoch, (after, sizes) in enumerate(ends_of_epochs, start=1):
        # What each row becomes if its sample is used in one of the batches, or last, in none.
        ways = len(sizes) + 1
        state = {name: np.repeat(value[None], ways, axis=0) for name, value in state.items()}
        for step, size in enumerate(sizes):
            rows = state["rows"]
            gradient = np.zeros_like(rows)
            gradient[step] = training.gradients(rows[step : step + 1])[0] / size
            rate, number = recipe.rate(number), number + 1
            rows = updated(recipe.optimizer, rows, gradient, rate, number, state)
            decay = recipe.average.decay if recipe.average and number > 1 else 0.0
            network = decay * state["network"] + (1 - decay) * rows
            state |= {"rows": rows, "network": network}
        ends = state["network"]
        distances = np.abs(ends - after).max(axis=-1)
        allowed = TOLERANCE * np.abs(ends[:-1] - ends[-1]).max(axis=(0, -1))
        _require_distinct(ends[:-1], allowed)
        used = distances.argmin(axis=0)
        wrong = np.flatnonzero(distances.min(axis=0) > allowed)
        state = {name: value[used, np.arange(COUNT)] for name, value in state.items()}
        used = np.where(used == len(sizes), UNUSED, used)
        if wrong.size:
            raise _unrecognised(training, epoch, wrong, used)
        yield used


def _require_distinct(ends: Array, allowed: Array) -> None:
    """Raise NotApplicableError if rows (batches, COUNT, outputs) that were used in different
    batches can hardly be told apart."""
    gaps = np.diff(np.sort(ends[..., 0], axis=0), axis=0).min(axis=0)
    if (gaps < 2 * allowed).any():
        reason = "the engine has no optimiser that shows in which update of an epoch a weight moved"
        raise NotApplicableError(reason)


def _unrecognised(
    training: PartTraining, epoch: int, wrong: NDArray[np.intp], used: NDArray[np.intp]
) -> BrokenError:
    """Return the error for rows that moved as no update of their samples can."""
    others = np.delete(used, wrong)
    unused = int((others == UNUSED).sum())
    fault = Fault.WRONG_VALUE
    where = f"epoch {epoch}: row {wrong[0]} moves as no update of its sample alone can"
    where += f", as {len(wrong) - 1} others do" if len(wrong) > 1 else ""
    if training.drops:
        diagnosis = None if unused else "dropout keeps every sample"
    elif unused:
        fault, diagnosis = Fault.WRONG_DISTRIBUTION, "samples are drawn with replacement"
        where += f", and {count_of(unused, 'sample')} of {COUNT} not used"
    else:
        diagnosis = "samples have the targets of others, or are used more than once"
    return broken(fault, where, tensor=training.kernel, diagnosis=diagnosis)


@check_each("trajectory", PARTS, requires=lambda part: part.requires, prefix="beside-")
def beside(trial: Trial, part: TrainingPart) -> None:
    """A native training with one part beside the plainest recipe and inputs uses every sample once
    in each epoch, with its own target and in another order, and drops other samples each time.

    Why: An engine often trains by other code as soon as a training has a part more, and that code
    has to shuffle and to drop units as well.
    Broken by: An engine that shuffles once, ignores the seed, takes another sample's target or
    forgets dropout in trainings with {subject}.
    Fix: Take the order, the targets and the masks from the same code, whatever a training has.
    """
    training = PartTraining.of(trial, part, drops=False)
    orders = list(_inferred(trial, training, trial.seed))
    _require_epochs(orders)
    sizes_by_epoch = training.recipe.sizes(COUNT)
    for epoch, used in enumerate(orders, start=1):
        sizes = next(sizes_by_epoch)
        counts = np.bincount(used[used != UNUSED], minlength=len(sizes)).tolist()
        if counts != sizes:
            what = f"the batch sizes of epoch {epoch}"
            raise broken(Fault.WRONG_VALUE, what, actual=str(counts), expected=str(sizes))
    _require_different(orders, orders, "the samples are shuffled once")
    if not has(trial, "layer:dropout"):
        return
    dropping = PartTraining.of(trial, part, drops=True)
    others = list(_inferred(trial, dropping, trial.seed + 1))
    _require_epochs(others)
    kept = np.array(others) != UNUSED
    what = f"the number of times that drop rate {DROP_RATE:g} keeps each sample in {EPOCHS} epochs"
    check_binomial(kept.sum(axis=0), EPOCHS, 1 - DROP_RATE, what)
    if any(np.array_equal(first, second) for first, second in combinations(kept, 2)):
        what = "two epochs have the same masks"
        raise broken(Fault.WRONG_DISTRIBUTION, what)
    _require_different(orders, others, "the seed is ignored")


def _require_epochs(found: list[NDArray[np.intp]]) -> None:
    """Raise BrokenError unless a training had its epochs."""
    if len(found) != EPOCHS:
        what = "the number of epochs that fit yields"
        raise broken(Fault.WRONG_STOP, what, actual=str(len(found)), expected=str(EPOCHS))


def _require_different(
    orders: list[NDArray[np.intp]], others: list[NDArray[np.intp]], diagnosis: str
) -> None:
    """Raise BrokenError if two epochs, of one training or of two, have the same batches, as far as
    samples were kept."""
    which = "of one training" if orders is others else "of two trainings with different seeds"
    for (first, used), (second, own) in product(enumerate(orders, 1), enumerate(others, 1)):
        kept = own != UNUSED
        if used is not own and np.array_equal(used[kept], own[kept]):
            what = f"epochs {first} and {second} {which} have the same batches"
            raise broken(Fault.NOT_DETERMINISTIC, what, diagnosis=diagnosis)
