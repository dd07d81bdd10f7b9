"""The order in which an engine takes the samples natively."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.rows import RowTraining
from dlsys_bench.conformance.checks.statistics import ALPHA
from dlsys_bench.conformance.checks.support import has
from dlsys_bench.conformance.checks.usage import (
    SCHEDULED,
    check_movement,
    check_repeats,
)
from dlsys_bench.conformance.checks.usage import batches as used_batches
from dlsys_bench.conformance.finding import Fault, broken
from dlsys_bench.conformance.trial import Trial


@check("trajectory", "order", requires=["native"])
def order(trial: Trial) -> None:
    """Every epoch uses every sample once, no epoch takes the order of another, or that of another
    seed, and a sample moves by each distance equally often. There are 33 epochs, or six in an
    engine without schedules, SGD or mean squared error.

    Why: Each epoch has to visit every sample once, in a new order, or the training is another one.
    Broken by: An engine that shuffles once, takes turns between a few orders, shuffles the last
    order in place by the same seed, lets no sample keep its place, drops the smaller last batch,
    draws with replacement, ignores the seed or a part of it, or adds the epoch to it.
    Fix: Draw one permutation per epoch from a generator that is seeded once per training. If it
    takes fewer than 32 bits, derive its seed by `numpy.random.SeedSequence`.
    """
    check_movement(trial, 80)
    check_repeats(trial, trial.seed)
    for count, size, epochs in ((80, 32, 3), (30, 4, 6)):
        batches = used_batches(trial, RowTraining(count, size, epochs, trial.seed))
        _check_batch_sizes(batches, count, size)
    for (earlier, first), (later, second) in combinations(enumerate(batches, start=1), 2):
        _compare_epochs(first, second, count, f"epochs {earlier} and {later}")
    scheduled = has(trial, *SCHEDULED)
    places = used_batches(trial, RowTraining(13, 1, 33 if scheduled else 2, trial.seed))
    _compare_shuffles(*places[:2])
    if scheduled:
        _check_distances(np.stack(places))
        # Without a schedule, each of the updates would need a training.
        many = used_batches(trial, RowTraining(count, size, 33, trial.seed))
        for (earlier, first), (later, second) in combinations(enumerate(many, start=1), 2):
            _compare_epochs(first, second, count, f"epochs {earlier} and {later}")
    # The second of these seeds differs in the highest of 32 bits alone.
    for seed in (trial.seed + 1, trial.seed ^ 2**31):
        others = used_batches(trial, RowTraining(count, size, 2, seed))
        for (epoch, used), (other, own) in product(enumerate(batches, 1), enumerate(others, 1)):
            if np.array_equal(used, own):
                which = f"epoch {epoch} with seed {trial.seed} and epoch {other} with seed {seed}"
                diagnosis = None if seed == trial.seed + 1 else "a part of the seed is ignored"
                what = f"{which} have the same batches"
                raise broken(Fault.NOT_DETERMINISTIC, what, diagnosis=diagnosis)


def _check_batch_sizes(batches: list[NDArray[Any]], count: int, size: int) -> None:
    """Raise BrokenError unless each epoch has whole batches, and a smaller last one."""
    whole = np.repeat(np.arange(-(-count // size)), size)[:count]
    for epoch, used in enumerate(batches, start=1):
        if not np.array_equal(np.sort(used), whole):
            sizes = np.bincount(used, minlength=len(set(whole))).tolist()
            what, expected = f"the batch sizes of epoch {epoch}", np.bincount(whole).tolist()
            raise broken(Fault.WRONG_VALUE, what, actual=str(sizes), expected=str(expected))


def _compare_epochs(first: NDArray[Any], second: NDArray[Any], count: int, which: str) -> None:
    """Raise BrokenError if an epoch repeats the batches of another, whole or in part."""
    if np.array_equal(first, second):
        what = f"{which} have the same batches: shuffled once, or with the same seed"
        raise broken(Fault.WRONG_DISTRIBUTION, what)
    # Of the 43 pairs of samples that share a batch, 4 do so again on average, and 25 or more do
    # once in 10^11 pairs of epochs.
    shared = (first[:, None] == first) & (second[:, None] == second)
    if (pairs := (int(shared.sum()) - count) // 2) >= 25:
        what = f"the number of pairs of samples that share a batch in both {which}"
        raise broken(Fault.WRONG_DISTRIBUTION, what, actual=str(pairs), expected="about 4")


def _compare_shuffles(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Raise BrokenError if the samples move from the first epoch to the second, of which the places
    are given, as they moved from the data to the first."""
    if np.array_equal(second, first[first]):
        what = "the order of epoch 2 is that of epoch 1 in the order of epoch 1"
        diagnosis = "every epoch shuffles the order of the last one in place, with the same seed"
        raise broken(Fault.WRONG_DISTRIBUTION, what, diagnosis=diagnosis)


def _check_distances(places: NDArray[Any]) -> None:
    """Raise BrokenError if samples move by a distance, modulo their number, too often or too
    rarely, given the place of each sample (epochs, count) in batches of one."""
    epochs, count = places.shape
    for distance in range(count):
        # A permutation moves one sample by each distance on average; their number is close to a
        # Poisson variable, as that of the fixed points is.
        found = int(((places - np.arange(count)) % count == distance).sum())
        tails = scipy.stats.poisson.cdf(found, epochs), scipy.stats.poisson.sf(found - 1, epochs)
        if 2 * count * min(tails) < ALPHA:
            what = f"the number of samples that shuffling moves by {distance} places"
            values = {"actual": str(found), "expected": f"about {epochs}"}
            raise broken(Fault.WRONG_DISTRIBUTION, what, **values)


@check("trajectory", "shuffling", requires=["native"])
def shuffling(trial: Trial) -> None:
    """The order of a shuffled epoch does not depend on that of the data or of the last epoch.

    Why: A shuffle buffer that is smaller than the data leaves the samples near where they were.
    Broken by: An engine that shuffles within windows of some hundred samples.
    Fix: Shuffle the indices of all samples.
    """
    count = 600
    check_movement(trial, count)
    check_repeats(trial, trial.seed)
    # Without a schedule, every update needs a training.
    size = 1 if has(trial, *SCHEDULED) else 20
    first, second = (
        size * used for used in used_batches(trial, RowTraining(count, size, 2, trial.seed))
    )
    for name, earlier, later in (
        ("the data", np.arange(count) // size * size, first),
        ("the epoch before", first, second),
    ):
        if (np.bincount(later // size, minlength=count // size) != size).any():
            what = f"an epoch of batches of {size} does not use every sample once"
            raise broken(Fault.WRONG_VALUE, what)
        p_value = scipy.stats.spearmanr(earlier, later).pvalue
        moved, expected = float(np.abs(later - earlier).mean()), count / 3
        # A sample moves by a third of the data on average; the factor is 6.5 standard deviations.
        if p_value < ALPHA or abs(moved - expected) > 6.5 * 0.2 * count / np.sqrt(count):
            what = f"the distance by which the order of an epoch moves a sample from {name}"
            values = {"actual": f"{moved:.3g}", "expected": f"{expected:.3g}"}
            raise broken(Fault.WRONG_DISTRIBUTION, what, **values)
