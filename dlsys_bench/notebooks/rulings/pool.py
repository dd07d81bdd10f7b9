"""What one run of an arm should reach, from its stored runs, and from how those of the study's
other arms stray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings.ruling import LEVEL, Claim
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs, figures
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import EPOCH_METRICS
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.spread import Spread, moderate

PUBLISHED_STEP = 1e-4
"""Figures are printed to four digits: runs that agree to more have not shown a spread of zero."""

WIDEST = 0.2
"""An interval of an accuracy that is wider says nothing; of a loss, one that is wider than the loss
is large."""

FRACTIONS = {name for name, metric in EPOCH_METRICS.items() if metric.is_fraction}


class Prediction(NamedTuple):
    """The mean of n runs, their own deviation, and the spread that they are judged by."""

    mean: float
    deviation: float
    n: int
    spread: Spread

    @property
    def error(self) -> float:
        return self.spread.deviation * math.sqrt(1 + 1 / self.n)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Where one more run falls so often."""
        half = float(stats.t.ppf((1 + level) / 2, self.spread.df)) * self.error
        return self.mean - half, self.mean + half

    def chance(self, value: float) -> float:
        """How often one more run lies as far from the mean as this, or further."""
        return 2.0 * float(stats.t.sf(abs(value - self.mean) / self.error, self.spread.df))

    @property
    def pooled(self) -> str:
        """What is said of a spread that is not the arm's own."""
        if self.spread.arms < 2:
            return ""
        return f"spread {self.spread.deviation:.2g} pooled over {self.spread.arms} arms, d.f. {self.spread.df:.1f}"


def predict(
    runs: Runs, mine: Sequence[Result], metric: str, epoch: int | None = None, at: int | None = None
) -> Prediction:
    """The prediction of an arm at an epoch, None for the end; of the study's other arms it takes
    the end, or `at`.

    At tier full the spread of an error rate or a loss goes with its size, from arm to arm of a
    study, more closely than it is one number for all: so it is pooled as a share of it.
    """
    found = [figures(mine, metric, epoch), *_others(runs, mine[0], metric, at)]
    scales = [_size(values, metric) for values in found]
    spreads = moderate(
        [float(values.var(ddof=1)) for values in found],
        [len(values) - 1 for values in found],
        scales,
        floor=PUBLISHED_STEP**2 / 12,
    )
    own = found[0]
    deviation = max(float(own.std(ddof=1)), PUBLISHED_STEP / math.sqrt(12))
    return Prediction(float(own.mean()), deviation, len(own), spreads[0])


def _size(values: NDArray[np.float64], metric: str) -> float:
    mean = float(values.mean())
    return max(1 - mean if metric in FRACTIONS else abs(mean), PUBLISHED_STEP)


def _others(runs: Runs, one: Result, metric: str, epoch: int | None) -> list[NDArray[np.float64]]:
    """The figures of the study's other arms on the same data."""
    if one.key.study not in studies():
        return []
    arms = [
        runs.of(one.key.study, arm.name)
        for arm in studies()[one.key.study].arms
        if arm.name != one.key.arm
    ]
    found = [
        figures(arm, metric, epoch)
        for arm in arms
        if arm and arm[0].key.dataset == one.key.dataset and arm[0].history
    ]
    return [values for values in found if len(values) >= FEWEST]


def spreads_of(
    runs: Runs, a: Sequence[Result], b: Sequence[Result], metric: str
) -> tuple[Spread, Spread] | None:
    """The spreads of two arms, each with the other arms of its study; None where there is no
    history to pool."""
    if not (a[0].history and b[0].history):
        return None
    return predict(runs, a, metric).spread, predict(runs, b, metric).spread


def too_wide(claim: Claim, metric: str, interval: tuple[float, float], mean: float) -> str:
    """Why an interval is too wide to bear a figure out; "" where it is not.

    One that is wider than all arms' published figures together would bear out the figure of any of
    them.
    """
    width = interval[1] - interval[0]
    published = [
        other["value"]
        for other in claims()
        if (other["study"], other["kind"], other.get("metric"))
        == (claim["study"], "band", claim["metric"])
    ]
    apart = max(published) - min(published) if published else 0.0
    if apart and width > apart:
        return f"wider ({width:.2g}) than the published figures of all arms lie apart ({apart:.2g})"
    if width > (WIDEST if metric in FRACTIONS else abs(mean)):
        return f"so wide ({width:.2g}) that it says nothing"
    return ""
