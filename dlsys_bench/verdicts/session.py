"""The session verdict: one test over all arms that an engine was judged on.

An engine that is slightly wrong everywhere passes every gate on its own: a shift of one standard
deviation is far below what the runs of a single arm can show. This test adds up the evidence. It
is van Elteren's stratified rank-sum test (1960): within each arm the new runs are ranked among the
reference runs of that arm, and the rank sums of the arms are added with the weights
1 / (n + m + 1), which are the best for a shift of the same number of standard deviations in every
arm.

If in every arm the new runs have the distribution of the reference runs, whatever it is, every
choice of which runs of an arm are new is equally likely, and the arms are independent. The null
distribution is therefore the convolution of the arms' exact rank-sum distributions. The weighted
contributions of the arms are rounded to a grid before they are added, for the statistic as for its
distribution, so that the p-value is exact.

A gate stops when it knows its answer, so that the number of its runs depends on them. Only the
runs that it trains in any case, those up to its first look, enter this test.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dlsys_bench.errors import count_of
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.budget import SESSION_SHARE
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome

CELLS = 2**14
"""The number of cells of the grid between the smallest and the largest statistic."""

EXACT = 1 + 1e-9  # Rounding must not separate a p-value from an equal level.

RANK_EFFICIENCY = 3 / pi
"""The asymptotic efficiency of the rank-sum test against the t test for a normal distribution."""


@dataclass(frozen=True)
class SessionVerdict:
    """The verdict on an engine over all arms that it was judged on.

    `shift` is the common shift in standard deviations of the figures, negative if the runs are
    worse, and `p_value` is two-sided. `smallest_shift` is the common shift that fails with
    probability 1 - beta.
    """

    engine: str
    arms: int
    runs: int
    outcome: Outcome
    shift: float
    p_value: float
    alpha: float
    beta: float
    smallest_shift: float

    def message(self) -> str:
        """Return the verdict in one sentence."""
        found = (
            f"{self.engine or 'session'}, {count_of(self.runs, 'run')} of "
            f"{count_of(self.arms, 'arm')} together: a shift of {self.shift:+.2f} standard "
            f"deviations, p-value {self.p_value:.1e} (alpha {self.alpha:.1e})"
        )
        worse = "worse" if self.shift < 0 else "better"
        return {
            Outcome.FAIL: f"{found}: the runs are {worse} than the reference runs as a whole "
            "(higher counts as better where a metric states no direction)",
            Outcome.PASS: f"{found}: a common shift of {self.smallest_shift:.2f} standard "
            f"deviations would fail with probability {1 - self.beta:g}",
            Outcome.INCONCLUSIVE: f"{found}: no outcome could fail",
        }[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {**vars(self), "outcome": self.outcome.value, "message": self.message()}


@lru_cache(maxsize=64)
def _grid(strata: tuple[Stratum, ...]) -> _Grid:
    """Return the null distribution of strata whose ranks are sorted. Without ties, arms with as
    many runs share it."""
    return _Grid(strata)


class _Grid:
    """The null distribution of the weighted sum over all strata, on a grid."""

    def __init__(self, strata: Sequence[Stratum]) -> None:
        spans = [float(np.ptp(s.distribution[0])) * s.weight for s in strata]
        self.step = sum(spans) / CELLS or 1.0
        self.first, self.probabilities = 0, np.ones(1)
        for stratum in strata:
            excesses, probabilities = stratum.distribution
            cells = self._rounded(stratum, excesses)
            counts = np.bincount(cells - cells[0], weights=probabilities)
            self.probabilities = np.convolve(self.probabilities, counts)
            self.first += int(cells[0])

    def _rounded(self, stratum: Stratum, excess: Any) -> NDArray[np.int64]:
        return np.rint(stratum.weight * np.asarray(excess) / self.step).astype(np.int64)

    def cell(self, stratum: Stratum) -> int:
        """Return the contribution of a stratum to the statistic, in cells."""
        return int(self._rounded(stratum, stratum.excess))

    def tail(self, statistic: int) -> float:
        """Return the smaller of the probabilities of a statistic as low, and of one as high."""
        place = statistic - self.first
        low = float(self.probabilities[: place + 1].sum())
        high = float(self.probabilities[place:].sum())
        return min(low, high)

    @property
    def smallest(self) -> float:
        """The smallest tail probability of any outcome."""
        return float(min(self.probabilities[0], self.probabilities[-1]))


def judge_session(
    strata: Sequence[Stratum], alpha: float, beta: float, engine: str = ""
) -> SessionVerdict:
    """Judge the runs of several arms together.

    If all of them are healthy, the outcome is FAIL with probability at most alpha. There has to be
    at least one stratum, and each needs a stored and a new run.
    """
    grid = _grid(tuple(stratum.sorted() for stratum in strata))
    p_value = min(1.0, 2 * grid.tail(sum(map(grid.cell, strata))))
    outcome = Outcome.FAIL if p_value <= alpha * EXACT else Outcome.PASS
    if 2 * grid.smallest > alpha * EXACT:
        outcome = Outcome.INCONCLUSIVE
    # For normal figures that are shifted by d standard deviations, a new run exceeds a stored one
    # with probability 1/2 + d / (2 sqrt(pi)) for small d.
    pairs = sum(stratum.pairs for stratum in strata)
    total = sum(stratum.weight * stratum.excess for stratum in strata)
    quantiles = stats.norm.isf(alpha / 2) + stats.norm.isf(beta)
    return SessionVerdict(
        engine,
        len(strata),
        sum(stratum.new for stratum in strata),
        outcome,
        total * sqrt(pi) / pairs,
        p_value,
        alpha,
        beta,
        float(quantiles / sqrt(RANK_EFFICIENCY * pairs)),
    )


def judge_sessions(
    strata: Iterable[tuple[Key, Stratum]], alpha: float, beta: float
) -> list[SessionVerdict]:
    """Judge each engine over the arms that it was judged on, if there are several.

    `alpha` is the false-alarm rate of the whole session, of which all session verdicts together
    have `SESSION_SHARE`. An arm that was judged twice counts once, because its runs are ranked
    among the same reference runs.
    """
    by_engine: dict[str, dict[Key, Stratum]] = {}
    for key, stratum in strata:
        by_engine.setdefault(key.engine, {}).setdefault(replace(key, device=""), stratum)
    several = {engine: found for engine, found in by_engine.items() if len(found) > 1}
    each = SESSION_SHARE * alpha / max(len(several), 1)
    return [
        judge_session(list(found.values()), each, beta, engine) for engine, found in several.items()
    ]
