"""Published statements about the arms of a study, and exact tests that rule on them.

No test assumes a distribution of the figures. A statement about most runs is tested by counting:
with n independent runs of which k agree, the probability of k or more is at most that of a fair
coin if the statement holds in at most half of all runs. An ordering is one about pairs of equal
seeds. Every statement of a set is tested at ERROR divided by their number (Bonferroni), so that the
probability of any wrong "reproduced" or "not reproduced" in the set is at most ERROR.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import scipy

from dlsys_bench.errors import count_of
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.claims.claim_set import ClaimSet
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling, attempt, unmeasured
from dlsys_bench.verdicts.claims.stored_runs import StoredRuns
from dlsys_bench.verdicts.difference import LEVEL

ERROR = 1 - LEVEL
"""The probability of a wrong ruling on any statement of a set."""


class Tally(NamedTuple):
    """The numbers of runs, or of pairs of runs, that agree with a statement and that contradict it.

    The others of `total` do neither. `measured` is a text with the figures.
    """

    agree: int
    contradict: int
    total: int
    measured: str


@dataclass(frozen=True, kw_only=True)
class Statement(ABC):
    """A published statement: what it says about a study, where it is printed, and a caveat."""

    id: str
    study: str
    source: str
    text: str
    caveat: str = ""

    kind: ClassVar[str]
    category: ClassVar[str] = "statements"

    @property
    def claim(self) -> Claim:
        """The statement as a claim."""
        names = ("id", "study", "kind", "category", "source", "text", "caveat")
        return {name: getattr(self, name) for name in names}

    @abstractmethod
    def judge(self, runs: StoredRuns, level: float) -> Judged:
        """Rule on the statement, with a probability of an error of at most `level`."""


@dataclass(frozen=True, kw_only=True)
class Counted(Statement):
    """A statement that is tested by counting runs of a tier.

    `dataset` is by default that of the arms.
    """

    tier: str = "quick"
    dataset: str = ""

    def runs_of(self, runs: StoredRuns, arm: str) -> dict[int, Result]:
        """The runs of an arm by seed. Of a seed on several devices, the run of the first counts,
        because those are not independent."""
        found = runs.of(self.study, arm, self.tier, self.dataset)
        return {run.seed: run for run in reversed(found)}

    @abstractmethod
    def tally(self, runs: StoredRuns) -> Tally:
        """Count the runs, or the pairs of runs."""

    def judge(self, runs: StoredRuns, level: float) -> Judged:
        """Rule on the statement by the sign test, one-sided in either direction."""
        tally = self.tally(runs)
        fewest = math.ceil(-math.log2(level))
        if not tally.total:
            return unmeasured(self.claim, 0, self.tier, fewest, self.dataset)
        # A run that does neither counts against whatever is tested.
        p_for, p_against = (
            float(scipy.stats.binom.sf(count - 1, tally.total, 0.5))
            for count in (tally.agree, tally.contradict)
        )
        ruling = Ruling.UNDECIDED
        if p_for <= level:
            ruling = Ruling.REPRODUCED
        elif p_against <= level:
            ruling = Ruling.NOT_REPRODUCED
        share = scipy.stats.binomtest(tally.agree, tally.total).proportion_ci(LEVEL, "exact")
        few = f"; at least {fewest} decide" if tally.total < fewest else ""
        p = min(p_for, p_against)
        reason = (
            f"{tally.agree} of {tally.total} agree (interval of this share), {tally.contradict} "
            f"contradict; p {p:.2g} by the sign test, which decides at {level:.2g}{few}"
        )
        return Judged(
            self.claim,
            ruling,
            reason,
            tally.measured,
            (float(share.low), float(share.high)),
            p,
            tally.total,
            min(1.0, p * ERROR / level),
        )


@dataclass(frozen=True, kw_only=True)
class Majority(Counted):
    """The statement that something holds in most runs of an arm.

    `holds` is given a run that finished. A run that diverged contradicts the statement.
    """

    arm: str
    holds: Callable[[Result], bool]
    kind: ClassVar[str] = "majority"

    def tally(self, runs: StoredRuns) -> Tally:
        """Count the runs in which it holds, and those in which it does not."""
        found = self.runs_of(runs, self.arm).values()
        agree = sum(run.status == "finished" and self.holds(run) for run in found)
        return Tally(
            agree, len(found) - agree, len(found), f"{agree} of {count_of(len(found), 'run')}"
        )


@dataclass(frozen=True, kw_only=True)
class Greater(Counted):
    """The statement that of two runs with one seed, that of an arm has the greater figure.

    `missing` is the figure of a run that finished without one, such as infinity for the step of an
    event that did not occur; None leaves such a pair undecided, as one with a run that diverged.
    """

    greater: str
    lesser: str
    metric: str
    missing: float | None = None
    kind: ClassVar[str] = "greater"

    def tally(self, runs: StoredRuns) -> Tally:
        """Count the pairs in either order."""
        sides = [self.runs_of(runs, arm) for arm in (self.greater, self.lesser)]
        seeds = sorted(set(sides[0]) & set(sides[1]))
        pairs = [tuple(self._figure(side[seed]) for side in sides) for seed in seeds]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        agree, contradict = sum(a > b for a, b in known), sum(a < b for a, b in known)
        medians = [_median(side) for side in zip(*known, strict=True)]
        named = zip((self.greater, self.lesser), medians, strict=False)
        measured = ", ".join(f"{arm} {median}" for arm, median in named)
        return Tally(agree, contradict, len(seeds), measured)

    def _figure(self, run: Result) -> float | None:
        if run.status != "finished":
            return None
        figure = run.metric(self.metric)
        return self.missing if figure is None else figure


def _median(values: Sequence[float]) -> str:
    # Of an even number, the upper one: there is no mean with an infinite figure.
    return f"{float(np.quantile(values, 0.5, method='higher')):.5g}"


@dataclass(frozen=True, kw_only=True)
class Printed(Statement):
    """A count that a source prints in a unit, with some digits after the point."""

    count: Callable[[], int]
    value: float
    unit: float = 1.0
    digits: int = 0
    kind: ClassVar[str] = "printed"
    category: ClassVar[str] = "counts"

    def judge(self, runs: StoredRuns, level: float) -> Judged:
        """Round the count as the source does. It is exact, so that there is no error."""
        count = self.count()
        ruling = (
            Ruling.REPRODUCED
            if round(count / self.unit, self.digits) == self.value
            else Ruling.NOT_REPRODUCED
        )
        return Judged(self.claim, ruling, "counted from the layers", f"{count:,}")


def _judge(one: Statement, runs: StoredRuns, level: float) -> Judged:
    """Rule on a statement, with its source and its caveat in the reason."""
    judged = attempt(one.claim, lambda: one.judge(runs, level))
    caveat = f"caveat: {one.caveat}" if one.caveat else ""
    return replace(judged, reason="; ".join(filter(None, (one.source, judged.reason, caveat))))


def statement_set(title: str, statements: Sequence[Statement]) -> ClaimSet:
    """Return the set of some statements. Raises ValueError if two have one id."""
    ids = [one.id for one in statements]
    if len(set(ids)) < len(ids):
        raise ValueError(f"the ids of statements have to be different: {sorted(ids)}")
    level = ERROR / max(1, sum(isinstance(one, Counted) for one in statements))

    def rule(extra: Sequence[Result], engines: Sequence[str]) -> list[Judged]:
        runs = StoredRuns(extra, engines)
        return [_judge(one, runs, level) for one in statements]

    return ClaimSet(title, lambda: [one.claim for one in statements], rule)
