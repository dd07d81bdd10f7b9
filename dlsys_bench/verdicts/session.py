"""The session verdict: one test over all arms that an engine was judged on.

An engine that is slightly wrong everywhere passes every gate on its own: a shift of one standard
deviation is far below what the runs of a single arm can show. This test adds up the evidence. It
is van Elteren's stratified rank-sum test (1960): within each arm the new runs are ranked among the
reference runs of that arm, and the rank sums of the arms are added with the weights
1 / (n + m + 1), which are the best for a shift of the same number of standard deviations in every
arm.

Arms share seeds, and runs of one seed begin with the same weights and see the samples in the same
order. In a sweep of learning rates, their correlation is 0.6; different studies may train the very
same arm on one dataset. The arms of a study, those on one dataset, and all of the users' own
trainings are one stratum therefore (`Stratum.together`), whose runs are seeds.

If in every stratum the new runs have the distribution of the reference runs, whatever it is, every
choice of which of them are new is equally likely, and the strata are independent. The null
distribution is therefore the convolution of the arms' exact rank-sum distributions. The weighted
contributions of the arms are rounded to a grid before they are added, for the statistic as for its
distribution, so that the p-value is exact.

Two more tests find what does not move all runs, as those of a gate do (`rank_tests`): the number of
new runs that are worse than every reference run of their arm, and the sum of the squared normal
scores of all new runs. Their null distributions are convolutions over the arms, too.

A gate stops when it knows its answer, so that the number of its runs depends on them. Only the
runs that it trains in any case, those up to its first look, enter these tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import count_of
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.budget import SESSION_SHARE, SHIFT_SHARE, SPREAD_SHARE, TAIL_SHARE
from dlsys_bench.verdicts.common_shift import detected_shift, null_distribution
from dlsys_bench.verdicts.decision import EXACT
from dlsys_bench.verdicts.rank_tests import (
    ROUNDING,
    beyond_all,
    excess_on_side,
    spread_probabilities,
    spread_scores,
    tail_probabilities,
)
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome


@dataclass(frozen=True)
class SessionVerdict:
    """The verdict on an engine over all arms that it was judged on.

    - `outcome`: FAIL if one of the three tests fails at its share of `alpha`.
    - `shift`: the common shift in standard deviations of the figures, negative if the runs are
      worse. `smallest_shift` is the one that fails with probability 1 - beta, None if none does.
    - `p_value`: that of the shift, one-sided if the gates are (`one_sided`), else two-sided.
    - `beyond`: the number of runs worse than every reference run of their arm.
    - `tail_p_value`, `spread_p_value`: those of that number, and of a larger spread.
    """

    engine: str
    arms: int
    runs: int
    outcome: Outcome
    shift: float
    p_value: float
    alpha: float
    beta: float
    smallest_shift: float | None
    one_sided: bool
    beyond: int
    tail_p_value: float
    spread_p_value: float
    rise_p_value: float | None = None

    def message(self) -> str:
        """Return the verdict in one sentence."""
        found = (
            f"{self.engine or 'session'}, {count_of(self.runs, 'run')} of "
            f"{count_of(self.arms, 'arm')} together: a shift of {self.shift:+.2f} standard "
            f"deviations, p-value {self.p_value:.1e} (alpha {self.alpha:.1e})"
        )
        return {
            Outcome.FAIL: f"{found}: {' and '.join(self.failures)} "
            "(higher counts as better where a metric states no direction)",
            Outcome.PASS: f"{found}{self._power}{self._warning}",
            Outcome.INCONCLUSIVE: f"{found}: too few new seeds to judge "
            "the arms together; arms that share seeds count as one",
        }[self.outcome]

    @property
    def failures(self) -> list[str]:
        """The tests that fail, in words."""
        worse = "worse" if self.shift < 0 else "better"
        beyond = (
            f"{self.beyond} of {count_of(self.runs, 'run')} beyond every reference run of their "
            f"arm, p-value {self.tail_p_value:.1e}"
        )
        tests = {
            f"the runs are {worse} than the reference runs as a whole": (self.p_value, SHIFT_SHARE),
            beyond: (self.tail_p_value, TAIL_SHARE),
            f"a larger spread, p-value {self.spread_p_value:.1e}": (
                self.spread_p_value,
                SPREAD_SHARE,
            ),
        }
        return [what for what, (p, part) in tests.items() if p <= part * self.alpha * EXACT]

    @property
    def _power(self) -> str:
        if self.smallest_shift is None:
            return ": no common shift would fail with the power of the gates"
        return (
            f": a common shift of {self.smallest_shift:.2f} standard deviations would fail with "
            f"probability {1 - self.beta:g}"
        )

    @property
    def _warning(self) -> str:
        if self.rise_p_value is None or self.rise_p_value > SHIFT_SHARE * self.alpha * EXACT:
            return ""
        return (
            f"; warning: the runs are better than the reference runs as a whole, p-value "
            f"{self.rise_p_value:.1e}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {**vars(self), "outcome": self.outcome.value, "message": self.message()}


def judge_session(
    strata: Sequence[Stratum],
    alpha: float,
    beta: float,
    engine: str = "",
    arms: Sequence[Stratum] = (),
) -> SessionVerdict:
    """Judge the runs of several arms together.

    If all of them are healthy, the outcome is FAIL with probability at most alpha. There has to be
    at least one stratum, each needs a stored and a new run, and all have the same sides. `arms` are
    the arms that the strata are made of, if these are not the arms themselves.
    """
    arms = arms or strata
    one_sided = strata[0].one_sided
    sides, factor = ((-1,), 1) if one_sided else ((-1, 1), 2)
    null = null_distribution(tuple(stratum.sorted() for stratum in strata))
    low, high = null.tails(sum(map(null.cell, strata)))
    beyond, tail_p_value = min(
        (_beyond(strata, side) for side in sides), key=lambda found: found[1]
    )
    # For normal figures that are shifted by d standard deviations, a new run exceeds a stored one
    # with probability 1/2 + d / (2 sqrt(pi)) for small d.
    total = sum(arm.weight * arm.excess for arm in arms)
    sizes = tuple(sorted((stratum.stored, stratum.new) for stratum in strata))
    verdict = SessionVerdict(
        engine,
        len(arms),
        sum(arm.new for arm in arms),
        Outcome.PASS,
        total * sqrt(pi) / sum(arm.pairs for arm in arms),
        low if one_sided else min(1.0, 2 * min(low, high)),
        alpha,
        beta,
        detected_shift(sizes, SHIFT_SHARE * alpha / factor, beta),
        one_sided,
        beyond,
        min(1.0, factor * tail_p_value),
        _spread_p_value(strata, sides),
        high if one_sided else None,
    )
    if factor * null.smallest > SHIFT_SHARE * alpha * EXACT:
        return replace(verdict, outcome=Outcome.INCONCLUSIVE)
    return replace(verdict, outcome=Outcome.FAIL) if verdict.failures else verdict


def _beyond(strata: Sequence[Stratum], side: int) -> tuple[int, float]:
    """Return the number of new runs that lie beyond every stored run of their arm on a side, and
    the probability of at least that number."""
    beyond = sum(beyond_all(np.array(s.ranks), s.stored, side) for s in strata)
    probabilities = _convolved([tail_probabilities(s.stored, s.new) for s in strata])
    return beyond, float(probabilities[beyond:].sum())


def _spread_p_value(strata: Sequence[Stratum], sides: tuple[int, ...]) -> float:
    """Return the probability of squared normal scores that sum to as much, as that of a gate."""
    ranks = [np.array(stratum.ranks) for stratum in strata]
    excesses = [
        sum(excess_on_side(r, s.stored, side) for r, s in zip(ranks, strata, strict=True))
        for side in sides
    ]
    if max(excesses) < -ROUNDING:
        return 1.0
    scores = [spread_scores(each) for each in ranks]
    each = [
        spread_probabilities(tuple(sorted(score.tolist())), stratum.new)
        for score, stratum in zip(scores, strata, strict=True)
    ]
    total = sum(int(s[stratum.stored :].sum()) for s, stratum in zip(scores, strata, strict=True))
    return float(_convolved(each)[total:].sum())


def _convolved(distributions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the distribution of the sum of independent counts."""
    total = np.ones(1)
    for distribution in distributions:
        total = np.convolve(total, distribution)
    return total


def judge_sessions(
    strata: Iterable[tuple[Key, Stratum]], alpha: float, beta: float
) -> list[SessionVerdict]:
    """Judge each engine over the arms that it was judged on, if there are several.

    `alpha` is the false-alarm rate of the whole session, of which all session verdicts together
    have `SESSION_SHARE`. Gates with one side and gates with both are judged separately. An arm that
    was judged twice counts once, because its runs are ranked among the same reference runs.
    """
    groups: dict[tuple[str, bool], dict[Key, Stratum]] = {}
    for key, stratum in strata:
        group = groups.setdefault((key.engine, stratum.one_sided), {})
        group.setdefault(replace(key, device=""), stratum)
    several = {name: found for name, found in groups.items() if len(found) > 1}
    each = SESSION_SHARE * alpha / max(len(several), 1)
    return [
        judge_session(_independent(found), each, beta, engine, list(found.values()))
        for (engine, _), found in several.items()
    ]


def _independent(arms: Mapping[Key, Stratum]) -> list[Stratum]:
    """Return one stratum for all arms of a study or on a dataset, which share seeds.

    The users' own trainings have no dataset, and are as one study therefore.
    """
    groups: list[tuple[set[tuple[str, str]], list[Stratum]]] = []
    for key, stratum in arms.items():
        names, members = {("study", key.study), ("dataset", key.dataset)}, [stratum]
        joined = [group for group in groups if group[0] & names]
        groups = [group for group in groups if group not in joined]
        names.update(*(group[0] for group in joined))
        groups.append((names, [*(one for group in joined for one in group[1]), *members]))
    return [each for _, members in groups for each in Stratum.together(members)]
