"""The prediction of one further run of an arm, from its runs and the variances of the study's other
arms."""

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
from dlsys_bench.verdicts.variance import Variance, moderate

PUBLISHED_STEP = 1e-4
"""Figures are printed with four digits, so that runs which agree do not show a variance of zero."""

WIDEST = 0.2
"""A wider interval of an accuracy is uninformative, as is an interval of a loss that is wider than
the loss itself."""

FRACTIONS = {name for name, metric in EPOCH_METRICS.items() if metric.is_fraction}


class Prediction(NamedTuple):
    """The mean and standard deviation of n runs, and the moderated variance that they are judged
    by."""

    mean: float
    deviation: float
    n: int
    spread: Variance

    @property
    def error(self) -> float:
        """The standard error of the prediction of one further run."""
        return self.spread.std * math.sqrt(1 + 1 / self.n)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval that contains one further run with probability `level`."""
        half = float(stats.t.ppf((1 + level) / 2, self.spread.df)) * self.error
        return self.mean - half, self.mean + half

    def p_value(self, value: float) -> float:
        """The probability that one further run is at least as far from the mean as `value`."""
        return 2.0 * float(stats.t.sf(abs(value - self.mean) / self.error, self.spread.df))

    @property
    def pooled(self) -> str:
        """The remark on a standard deviation that is pooled over arms; empty if it is not."""
        if self.spread.arms < 2:
            return ""
        return (
            f"standard deviation {self.spread.std:.2g} pooled over {self.spread.arms} arms, "
            f"d.f. {self.spread.df:.1f}"
        )


def predict(
    runs: Runs,
    of_arm: Sequence[Result],
    metric: str,
    epoch: int | None = None,
    at: int | None = None,
) -> Prediction:
    """Predict one further run of an arm at an epoch, None for the end. The study's other arms
    contribute their variance at the end, or at epoch `at`.

    At tier full, the standard deviation of an error rate or a loss is closer to proportional to its
    mean than to constant over the arms of a study; therefore it is pooled relative to the mean.
    """
    found = [figures(of_arm, metric, epoch), *_others(runs, of_arm[0], metric, at)]
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
    """The figures of the study's other arms on the same dataset."""
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
) -> tuple[Variance, Variance] | None:
    """The moderated variances of two arms, each with the other arms of its study; None if the runs
    have no history to pool."""
    if not (a[0].history and b[0].history):
        return None
    return predict(runs, a, metric).spread, predict(runs, b, metric).spread


def too_wide(claim: Claim, metric: str, interval: tuple[float, float], mean: float) -> str:
    """The reason why an interval is too wide to confirm a figure; empty if it is not.

    An interval that is wider than the range of the published figures of all arms would confirm the
    figure of any of them.
    """
    width = interval[1] - interval[0]
    published = [
        other["value"]
        for other in claims()
        if (other["study"], other["kind"], other.get("metric"))
        == (claim["study"], "band", claim["metric"])
    ]
    extent = max(published) - min(published) if published else 0.0
    if extent and width > extent:
        return f"wider ({width:.2g}) than the range of the published figures ({extent:.2g})"
    if width > (WIDEST if metric in FRACTIONS else abs(mean)):
        return f"so wide ({width:.2g}) that it is uninformative"
    return ""
