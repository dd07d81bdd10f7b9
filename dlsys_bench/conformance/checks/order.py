"""The order in which an engine takes the samples natively."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.statistics import ALPHA
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import Zeros
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

REQUIRES = ("native", "schedule", "optimizer:sgd", "loss:mean_squared_error")
ZERO_DENSE = Dense(1, use_bias=False, kernel_initializer=Zeros())


@check("trajectory", "order", requires=REQUIRES)
def order(trial: Trial) -> None:
    """Every epoch uses every sample once, and takes another order than the first."""
    for count, size in ((80, 32), (30, 4)):
        batches = _batches(trial, count, size, epochs=3, seed=trial.seed)
        whole = np.repeat(np.arange(-(-count // size)), size)[:count]
        for epoch, used in enumerate(batches, start=1):
            if not np.array_equal(np.sort(used), whole):
                sizes = np.bincount(used, minlength=len(set(whole))).tolist()
                what, expected = f"the batch sizes of epoch {epoch}", np.bincount(whole).tolist()
                raise broken(Fault.WRONG_VALUE, what, actual=str(sizes), expected=str(expected))
    for epoch in (1, 2):
        _compare_epochs(batches[0], batches[epoch], count, epoch + 1)
    other = _batches(trial, count, size, epochs=1, seed=trial.seed + 1)[0]
    if np.array_equal(batches[0], other):
        raise broken(Fault.NOT_DETERMINISTIC, "two seeds give the same batches")


def _compare_epochs(first: Array, later: Array, count: int, epoch: int) -> None:
    """Raise BrokenError if an epoch repeats the batches of the first, whole or in part."""
    if np.array_equal(first, later):
        what = f"epochs 1 and {epoch} have the same batches: shuffled once, or with the same seed"
        raise broken(Fault.WRONG_DISTRIBUTION, what)
    # Of the 43 pairs of samples that share a batch, 4 do so again on average, and 25 or more do
    # once in 10^11 trainings.
    shared = (first[:, None] == first) & (later[:, None] == later)
    if (pairs := (int(shared.sum()) - count) // 2) >= 25:
        what = f"the number of pairs of samples that share a batch in epoch 1 and in epoch {epoch}"
        raise broken(Fault.WRONG_DISTRIBUTION, what, actual=str(pairs), expected="about 4")


@check("trajectory", "shuffling", requires=REQUIRES)
def shuffling(trial: Trial) -> None:
    """The order of a shuffled epoch does not depend on that of the data or of the last epoch."""
    count = 600
    first, second = _batches(trial, count, 1, epochs=2, seed=trial.seed)
    for name, earlier, later in (
        ("the data", np.arange(count), first),
        ("the epoch before", first, second),
    ):
        if len(set(later.tolist())) < count:
            what = "an epoch of batches of one does not use every sample once"
            raise broken(Fault.WRONG_VALUE, what)
        p_value = stats.spearmanr(earlier, later).pvalue
        moved, expected = float(np.abs(later - earlier).mean()), count / 3
        # A sample moves by a third of the data on average; the factor is 6.5 standard deviations.
        if p_value < ALPHA or abs(moved - expected) > 6.5 * 0.2 * count / np.sqrt(count):
            what = f"the distance by which the order of an epoch moves a sample from {name}"
            values = {"actual": f"{moved:.3g}", "expected": f"{expected:.3g}"}
            raise broken(Fault.WRONG_DISTRIBUTION, what, **values)


def _batches(trial: Trial, count: int, size: int, epochs: int, seed: int) -> list[Array]:
    """Return, for each epoch, the index of the batch in which each sample was used.

    Sample i is the unit vector i and has its own target, so weight i moves when sample i is used.
    Every update has another learning rate, which the factor of the movement reveals.
    """
    model = Model("order", (count,), (ZERO_DENSE,))
    targets = 1 + np.arange(count) / count
    samples = Samples(np.eye(count), targets[:, None])
    steps = -(-count // size)
    schedule = LearningRateRamp(0.05 * size, 0.35 * size, steps * epochs, "difference")
    loss = MeanSquaredError()
    recipe = Recipe(SGD(0.1), batch_size=size, epochs=epochs, loss=loss, schedule=schedule)
    recipe = to_convention(trial.convention, recipe)
    remaining = [np.ones(count)]
    for epoch in range(1, epochs + 1):
        network = trial.engine.build(model, seed=seed)
        train(trial.engine, network, samples, recipe, Plan(seed, steps=steps * epoch))
        weights = trial.engine.weights(network)["dense_1.kernel"][:, 0]
        remaining.append(1 - weights / targets)
    sizes = np.full(steps, size)
    sizes[-1] = count - size * (steps - 1)
    found = []
    for epoch in range(epochs):
        rates = [schedule.rate(epoch * steps + step) for step in range(steps)]
        factors = 1 - 2 * np.array(rates) / sizes
        found.append(_nearest(remaining[epoch + 1] / remaining[epoch], factors, epoch + 1, size))
    return found


def _nearest(moved: Array, factors: Array, epoch: int, size: int) -> Array:
    """Return the index of the update whose factor each weight moved by."""
    distance = np.abs(moved[:, None] - factors)
    wrong = np.flatnonzero(distance.min(axis=1) > 1e-4)
    if wrong.size:
        unused = np.flatnonzero(np.abs(moved - 1) < 1e-6)
        what = f"weight {wrong[0]} moves as no update of its sample alone can"
        if unused.size:
            what = f"{unused.size} of {len(moved)} samples are not used"
        raise broken(Fault.WRONG_VALUE, f"epoch {epoch}, batches of {size}: {what}")
    nearest: Array = distance.argmin(axis=1)
    return nearest
