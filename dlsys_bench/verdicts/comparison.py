"""One figure of one arm in two sets of runs: what was measured, and the relation of the sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from dlsys_bench.errors import count_of
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.correlation import FEWEST_PAIRS
from dlsys_bench.verdicts.difference import Difference, more_runs
from dlsys_bench.verdicts.tails import Tails


class Relation(StrEnum):
    """The relation of two sets of runs in one figure. LEFT_OUT: one set has nothing to compare."""

    SAME = "SAME"
    DIFFERS = "DIFFERS"
    UNDECIDED = "UNDECIDED"
    LEFT_OUT = "LEFT OUT"


class Side(NamedTuple):
    """The runs of an arm in one set: their engine, their number, and how many diverged.

    `mean` and `std` are those of the `figures` values that the other runs have.
    """

    engine: str
    runs: int
    diverged: int
    mean: float | None
    std: float | None
    figures: int

    def to_dict(self) -> dict[str, Any]:
        """Return the side as JSON values."""
        values = self._asdict()
        # The JSON calls the standard deviation "spread".
        return {{"std": "spread"}.get(name, name): value for name, value in values.items()}


@dataclass(frozen=True)
class Comparison:
    """One figure of one arm in both sets.

    `difference` is B minus A, `p` its p-value, and `adjusted` that adjusted for the table (Holm).
    `more_runs` is the number of further runs of each side that would decide the comparison if mean
    and standard deviation stay as they are. `adjusted_tails` is the adjusted p-value of `tails`.
    """

    key: Key
    metric: str
    relation: Relation
    reason: str
    a: Side | None = None
    b: Side | None = None
    difference: Difference | None = None
    p: float | None = None
    adjusted: float | None = None
    more_runs: int | None = None
    tails: Tails | None = None
    adjusted_tails: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        gap = self.difference
        return {
            **self.key.to_dict("study", "arm", "dataset", "tier"),
            "metric": self.metric,
            "reason": self.reason,
            "verdict": self.relation.value,
            "p": self.p,
            "adjusted_p": self.adjusted,
            "more_runs": self.more_runs,
            "a": self.a.to_dict() if self.a else None,
            "b": self.b.to_dict() if self.b else None,
            "difference": {"mean": gap.mean, "low": gap.low, "high": gap.high, "how": gap.how}
            if gap
            else None,
            "tails": self.tails._asdict() | {"adjusted_p": self.adjusted_tails}
            if self.tails
            else None,
        }


def judge(
    one: Comparison, diverged: float | None, margin: float, alpha: float, tests: int
) -> Comparison:
    """Return the comparison with its relation and the reason.

    `diverged` is the adjusted p-value of the numbers of diverged runs, None if none diverged, and
    `tests` the number of tests that share `alpha`.
    """
    assert one.a is not None
    assert one.b is not None
    counts = [f"{side.diverged} of {side.runs}" for side in (one.a, one.b)]
    lost = f"; {counts[0]} runs of A diverged, {counts[1]} of B" if diverged is not None else ""
    if diverged is not None and diverged < alpha:
        reason = f"{lost[2:]}: p {diverged:.2g} (Fisher, Holm)"
        return replace(one, relation=Relation.DIFFERS, reason=reason)
    if one.difference is None or one.tails is None:
        few = min(side.figures for side in (one.a, one.b))
        reason = f"{count_of(few, 'run')} with this figure on one side: each needs 2{lost}"
        return replace(one, reason=reason, more_runs=max(2 - few, 1))
    found = _judge_figures(one, one.difference, one.tails, (margin, alpha, tests))
    return replace(found, reason=f"{found.reason}{lost}")


def _judge_figures(
    one: Comparison, gap: Difference, ends: Tails, terms: tuple[float, float, int]
) -> Comparison:
    """Return the comparison of the runs that did not diverge, by their means and by their tails."""
    margin, alpha, tests = terms
    assert one.a is not None
    assert one.b is not None
    few = min(side.runs - side.diverged for side in (one.a, one.b))
    # Two runs that agree to the last digit do not show that all runs would.
    near = gap.within(margin) < alpha and (bool(gap.error) or few >= FEWEST_PAIRS)
    differ = ends.differ(margin)
    if near and not ends.beyond and not (differ and ends.p < alpha):
        return replace(one, relation=Relation.SAME, reason=f"inside ±{margin:g} ({gap.how})")
    if not near and one.adjusted is not None and one.adjusted < alpha:
        beyond = gap.low > margin or gap.high < -margin
        size = f"beyond ±{margin:g}" if beyond else f"though perhaps by no more than {margin:g}"
        return replace(one, relation=Relation.DIFFERS, reason=f"{size} ({gap.how})")
    if differ and one.adjusted_tails is not None and one.adjusted_tails < alpha:
        reason = f"{ends} (p {one.adjusted_tails:.2g}, permutation, Holm)"
        return replace(one, relation=Relation.DIFFERS, reason=reason)
    if near:
        reason = f"the means are inside ±{margin:g} ({gap.how}), but {ends.beyond or ends}"
        return replace(one, reason=reason)
    more = more_runs(gap, few, margin, alpha, tests) if gap.error else max(FEWEST_PAIRS - few, 1)
    decide = (
        f"about {more} more runs on each side would decide it"
        if more
        else "not even a thousand more runs would decide it"
    )
    return replace(one, reason=f"{decide} ({gap.how})", more_runs=more)
