"""The ratio of the durations of a benchmark in repeated sessions, with its confidence interval.

Sessions of one program differ by more than its rounds: another process, other addresses, another
temperature. The session is therefore the unit that varies. On each side, the durations are the
medians of the sessions, on a logarithmic scale, and their standard deviation is estimated from all
sessions, about the mean of their side. With one session on each side there is nothing to estimate
it from; it is then assumed, and the variance within each session is added. That is estimated from
blocks of consecutive rounds, since rounds that follow each other are slowed by the same load.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from dlsys_bench.timing.ratio import CONFIDENCE, Ratio

BLOCKS = 12
"""The largest number of blocks of a session."""

LARGEST = 700.0
"""The largest number of which the exponential is finite, rounded down."""

CERTAIN = 1e9
"""The degrees of freedom of a variance that is known."""


class LogEstimate(NamedTuple):
    """An estimate of a logarithm, its variance, and the degrees of freedom of that.

    The variance is infinite where fewer than two values are known.
    """

    value: float
    variance: float
    freedom: float


def session_ratio(
    a: Sequence[Sequence[float]], b: Sequence[Sequence[float]], spread: float, drift: float = 1.0
) -> Ratio:
    """Return the speedup of B, given the seconds of the rounds of each session of A and of B.

    `spread` is the relative standard deviation between sessions that is assumed if each side has
    one session. `drift` is the ratio of the machine's speeds at the two times; the interval is
    widened by it, because it is unknown how much of it affected these rounds.
    """
    found = _one_each(a[0], b[0], spread) if len(a) == len(b) == 1 else _repeated(a, b)
    rounds = min(len(one) for side in (a, b) for one in side)
    if found.variance == inf:
        return Ratio(0.0, exp(found.value), inf, rounds)
    margin = float(stdtrit(found.freedom, (1 + CONFIDENCE) / 2)) * sqrt(found.variance)
    margin += abs(log(drift))
    low, high = (exp(min(found.value + end, LARGEST)) for end in (-margin, margin))
    return Ratio(low, exp(found.value), high, rounds)


def _repeated(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> LogEstimate:
    """Return the difference of the means of two sides, its variance pooled over the sides."""
    medians = [np.log([np.median(rounds) for rounds in side]) for side in (a, b)]
    freedom = sum(len(side) - 1 for side in medians)
    squares = sum(float(np.sum((side - side.mean()) ** 2)) for side in medians)
    variance = squares / freedom * sum(1 / len(side) for side in medians)
    return LogEstimate(float(medians[0].mean() - medians[1].mean()), variance, freedom)


def _one_each(a: Sequence[float], b: Sequence[float], spread: float) -> LogEstimate:
    """Return the difference of two sessions, which have this standard deviation."""
    within = [_of_session(rounds) for rounds in (a, b)]
    variance = sum(one.variance for one in within) + 2 * min(spread, LARGEST) ** 2
    # Welch and Satterthwaite; the assumed part of the variance has no uncertainty.
    unsure = sum(one.variance**2 / one.freedom for one in within)
    freedom = variance**2 / unsure if 0 < unsure < inf else CERTAIN
    return LogEstimate(within[0].value - within[1].value, variance, freedom)


def _of_session(rounds: Sequence[float]) -> LogEstimate:
    """Return the logarithm of the duration of a session: the mean of the medians of blocks."""
    blocks = np.array_split(np.log(rounds), min(BLOCKS, len(rounds)))
    medians = np.array([np.median(block) for block in blocks])
    count = len(medians)
    if count < 2:
        return LogEstimate(float(medians[0]), inf, 1)
    deviations = medians - medians.mean()
    total = float(deviations @ deviations)
    # Blocks that are still correlated carry less information. The estimate of a correlation r from
    # n values is low by about (1 + 3 r) / n.
    correlation = float(deviations[1:] @ deviations[:-1]) / total if total else 0.0
    correlation = (count * correlation + 1) / (count - 3) if count > 7 else correlation
    correlation = min(max(correlation, 0.0), 0.9)
    inflation = (1 + correlation) / (1 - correlation)
    return LogEstimate(float(medians.mean()), total / (count - 1) / count * inflation, count - 1)
