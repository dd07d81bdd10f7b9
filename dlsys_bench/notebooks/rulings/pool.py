"""The prediction of one further run of an arm, from its runs and the variances of the study's other
arms.

Fractions are predicted on a logit scale and losses on a log scale, on which the arms of a study
have more nearly the same spread, and intervals stay within the possible values. Variances are
pooled over those arms alone whose variances agree by Bartlett's test (1937).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs, figures
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import EPOCH_METRICS
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim
from dlsys_bench.verdicts.difference import LEVEL
from dlsys_bench.verdicts.variance import Variance, moderate

PUBLISHED_STEP = 1e-4
"""Figures are printed with four digits, so that runs which agree do not show a variance of zero."""

WIDEST = 0.2
"""A wider interval of an accuracy is uninformative, as is an interval of a loss that is wider than
the loss itself."""

MOST_OWN = 4.0
"""An interval that extends over more than this many of the arm's own standard deviations each way
cannot confirm a figure: it owes its width to other arms, or to too few runs."""

AGREE = 0.1
"""The p-value of Bartlett's test above which variances are pooled."""

FRACTIONS = {name for name, metric in EPOCH_METRICS.items() if metric.is_fraction}


class FigureScale(NamedTuple):
    """A scale on which figures are predicted: the transformation, its inverse, and its slope."""

    to: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    back: Callable[[float], float]
    slope: Callable[[float], float]


def _inside(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values, PUBLISHED_STEP / 2, 1 - PUBLISHED_STEP / 2)


def _logit_slope(value: float) -> float:
    inside = min(max(value, PUBLISHED_STEP / 2), 1 - PUBLISHED_STEP / 2)
    return 1 / (inside * (1 - inside))


LOGIT = FigureScale(
    lambda values: np.asarray(special.logit(_inside(values))),
    lambda value: float(special.expit(value)),
    _logit_slope,
)
LOG = FigureScale(
    lambda values: np.log(np.maximum(values, PUBLISHED_STEP / 2)),
    math.exp,
    lambda value: 1 / max(value, PUBLISHED_STEP / 2),
)


def scale_of(metric: str) -> FigureScale:
    """Return the scale of a metric: logits of fractions, and logarithms of losses."""
    return LOGIT if metric in FRACTIONS else LOG


class Prediction(NamedTuple):
    """The mean and standard deviation of n runs, and the prediction of a further one on a scale.

    On the scale, `centre` is their mean, `own` their standard deviation, and `spread` the moderated
    variance that they are judged by. `others` are the figures of the study's other arms.
    """

    mean: float
    deviation: float
    n: int
    scale: FigureScale
    centre: float
    own: float
    spread: Variance
    others: Sequence[NDArray[np.float64]] = ()

    @property
    def error(self) -> float:
        """The standard error of the prediction of one further run, on the scale."""
        return self.spread.std * math.sqrt(1 + 1 / self.n)

    def half_width(self, level: float = LEVEL) -> float:
        """Half the width of the interval, on the scale."""
        return float(scipy.stats.t.ppf((1 + level) / 2, self.spread.df)) * self.error

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval that contains one further run with probability `level`."""
        half = self.half_width(level)
        return self.scale.back(self.centre - half), self.scale.back(self.centre + half)

    def deviations(self, value: float) -> float:
        """The distance of a figure from the mean in standard deviations."""
        gap = float(self.scale.to(np.array([value]))[0]) - self.centre
        return abs(gap) / self.spread.std

    def p_value(self, value: float) -> float:
        """The probability that one further run is at least as far from the mean as `value`."""
        distance = self.deviations(value) * self.spread.std / self.error
        return 2.0 * float(scipy.stats.t.sf(distance, self.spread.df))

    def of_other_runs(self, values: NDArray[np.float64]) -> Prediction:
        """Return the prediction from other runs of the arm."""
        return _predict(values, self.others, self.scale)

    @property
    def borrowed(self) -> str:
        """The reason why the interval is too wide for the arm's own spread; empty if it is not."""
        ratio = self.half_width() / self.own
        if ratio <= MOST_OWN:
            return ""
        return f"{ratio:.1f} of the arm's own standard deviations wide each way"

    @property
    def pooled(self) -> str:
        """The remark on a standard deviation that is pooled over arms; empty if it is not."""
        if self.spread.arms < 2:
            return ""
        std = self.spread.std / self.scale.slope(self.mean)
        return (
            f"standard deviation {std:.2g} pooled over {self.spread.arms} arms, "
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
    contribute their variance at the end, or at epoch `at`, if it agrees with that of the arm."""
    others = _others(runs, of_arm[0], metric, at)
    return _predict(figures(of_arm, metric, epoch), others, scale_of(metric))


def _predict(
    own: NDArray[np.float64], others: Sequence[NDArray[np.float64]], scale: FigureScale
) -> Prediction:
    """Predict from the figures of an arm and of the study's other arms."""
    found = [own, *others]
    variances, df = [_variance(values, scale) for values in found], [len(v) - 1 for v in found]
    alike = agreeing(variances, df)
    spreads = moderate([variances[n] for n in alike], [df[n] for n in alike])
    return Prediction(
        float(own.mean()),
        max(float(own.std(ddof=1)), PUBLISHED_STEP / math.sqrt(12)),
        len(own),
        scale,
        float(scale.to(own).mean()),
        math.sqrt(variances[0]),
        spreads[0],
        others,
    )


def _variance(values: NDArray[np.float64], scale: FigureScale) -> float:
    """Return the variance on a scale, at least that of rounding to the published digits."""
    rounding = PUBLISHED_STEP * scale.slope(float(values.mean())) / math.sqrt(12)
    return max(float(scale.to(values).var(ddof=1)), rounding**2)


def agreeing(variances: Sequence[float], df: Sequence[int]) -> list[int]:
    """Return the arms to pool with the first: those whose variances agree by Bartlett's test.

    Until the rest agrees, the arm without which it agrees best is left out; if that is the first,
    it is the only one.
    """
    kept = list(range(len(variances)))
    while len(kept) > 1 and _bartlett(kept, variances, df) < AGREE:
        rests = {n: [other for other in kept if other != n] for n in kept}
        left_out = max(kept, key=lambda n: _bartlett(rests[n], variances, df))
        if left_out == 0:
            return [0]
        kept = rests[left_out]
    return kept


def _bartlett(arms: Sequence[int], variances: Sequence[float], df: Sequence[int]) -> float:
    """Return the p-value of equal variances. It is that of scipy.stats.bartlett, from variances."""
    if len(arms) < 2:
        return 1.0
    s2, d = np.array([variances[n] for n in arms]), np.array([df[n] for n in arms], np.float64)
    statistic = d.sum() * np.log(np.average(s2, weights=d)) - (d * np.log(s2)).sum()
    correction = 1 + ((1 / d).sum() - 1 / d.sum()) / (3 * (len(arms) - 1))
    return float(scipy.stats.chi2.sf(statistic / correction, len(arms) - 1))


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
    """The moderated variances of two arms in units of the metric, each with the other arms of its
    study; None if the runs have no history to pool."""
    if not (a[0].history and b[0].history):
        return None
    found = [predict(runs, side, metric) for side in (a, b)]
    first, second = (
        one.spread._replace(value=one.spread.value / one.scale.slope(one.mean) ** 2)
        for one in found
    )
    return first, second


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
