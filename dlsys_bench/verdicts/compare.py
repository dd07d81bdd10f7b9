"""Two sets of runs, figure by figure: before and after an upgrade, one engine and another, CPU and
GPU.

SAME and DIFFERS each need evidence: two one-sided t tests place the difference inside +-margin,
each at `alpha`; or a test against no difference holds at `alpha` over all rows together (Holm
1979). What neither shows is UNDECIDED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from dlsys_bench.engines.epochs import Epoch
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.difference import FEWEST_PAIRS, Difference, difference, holm, more_runs
from dlsys_bench.verdicts.pairing import Pair, paired
from dlsys_bench.verdicts.permutation import rearranged

MARGIN = 0.005
EPOCH_FIGURES = tuple(
    field.name for field in fields(Epoch) if field.name not in ("epoch", "steps", "by_step")
)


class Relation(StrEnum):
    """How two sets of runs stand to each other in one figure. LEFT_OUT: there was nothing to
    compare it with."""

    SAME = "SAME"
    DIFFERS = "DIFFERS"
    UNDECIDED = "UNDECIDED"
    LEFT_OUT = "LEFT OUT"


class Side(NamedTuple):
    """One set's runs of an arm: by which engine, how many, of which so many diverged; mean and
    spread of the `figures` that the rest have."""

    engine: str
    runs: int
    diverged: int
    mean: float | None
    spread: float | None
    figures: int


@dataclass(frozen=True)
class Comparison:
    """One figure of one arm in both sets. `difference` is B minus A; `p` is against none,
    `adjusted` by Holm over the table; `more_runs` how many more of each side would decide it, at
    the mean and spread so far."""

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

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        gap = self.difference
        return {
            **self.key.to_dict("study", "arm", "dataset", "tier"),
            "metric": self.metric,
            "reason": self.reason,
            "verdict": self.relation.value,
            "p": self.p,
            "adjusted_p": self.adjusted,
            "more_runs": self.more_runs,
            "a": self.a._asdict() if self.a else None,
            "b": self.b._asdict() if self.b else None,
            "difference": {"mean": gap.mean, "low": gap.low, "high": gap.high, "how": gap.how}
            if gap
            else None,
        }


def compare(
    a: Sequence[Result],
    b: Sequence[Result],
    *,
    metrics: Sequence[str] = (),
    margin: float = MARGIN,
    alpha: float = 0.05,
) -> list[Comparison]:
    """Every figure that both have by the same protocol: of the `metrics`, or of the one that the
    study judges by; of runs of callables each that they share. What only one has is left out, and
    says why.

    Errors: UserError where there is nothing to compare, or it is the same runs.
    """
    if a and list(a) == list(b):
        raise UserError(
            "A and B are the same runs: there is nothing to compare; select other ones after @"
        )
    pairs, strays = paired(a, b)
    left = [Comparison(stray.key, "", Relation.LEFT_OUT, stray.reason) for stray in strays]
    rows: list[tuple[Pair, str]] = []
    for pair in pairs:
        names = list(metrics) or _metrics(pair)
        rows += [(pair, name) for name in names if _has(pair, name)]
        left += [
            Comparison(pair.key, name, Relation.LEFT_OUT, _missing(pair, name))
            for name in names
            if not _has(pair, name)
        ]
    if not rows:
        raise UserError(_nothing(a, b, metrics, left))
    # Whether runs diverge is asked once an arm, however many figures it has.
    lost = {pair: _more_diverged(pair) for pair, _ in rows}
    first = [_measure(pair, name, alpha) for pair, name in rows]
    adjusted = holm([*(one.p for one in first), *lost.values()])
    of_pair = dict(zip(lost, adjusted[len(first) :], strict=True))
    tests = sum(p is not None for p in (*(one.p for one in first), *lost.values()))
    found = [
        _judge(replace(one, adjusted=q), of_pair[pair], margin, alpha, tests)
        for (pair, _), one, q in zip(rows, first, adjusted, strict=False)
    ]
    return found + left


def _metrics(pair: Pair) -> list[str]:
    """What a pair is compared by where nobody says: the study's metric, else every figure that both
    have."""
    if pair.key.study in studies():
        return [studies()[pair.key.study].metric.name]
    # A side that always diverged has no figures; the other's name what is missing.
    a, b = _figures(pair.a) or _figures(pair.b), _figures(pair.b) or _figures(pair.a)
    return [name for name in a if name in b] or ["test_accuracy"]


def _figures(runs: Iterable[Result]) -> list[str]:
    return list(
        dict.fromkeys(
            name
            for run in runs
            for name, value in run.figures.items()
            if isinstance(value, int | float)
        )
    )


def _values(runs: Sequence[Result], metric: str) -> list[float]:
    known = [run for run in runs if metric in EPOCH_FIGURES or metric in run.figures]
    return [value for run in known if (value := run.metric(metric)) is not None]


def _has(pair: Pair, metric: str) -> bool:
    """Whether there is something to compare: a figure of both, or runs that diverged where the
    others did not."""
    a, b = bool(_values(pair.a, metric)), bool(_values(pair.b, metric))
    return (
        (a and b)
        or (a and not any(map(_finished, pair.b)))
        or (b and not any(map(_finished, pair.a)))
    )


def _missing(pair: Pair, metric: str) -> str:
    if not any(map(_finished, (*pair.a, *pair.b))):
        return f"all {len(pair.a)} runs of A diverged, and all {len(pair.b)} of B"
    return f"not both have {metric}"


def _finished(run: Result) -> bool:
    return run.status == "finished"


def _nothing(
    a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str], left: Sequence[Comparison]
) -> str:
    """Why there is nothing to compare."""
    known = [*EPOCH_FIGURES, *_figures((*a, *b))]
    unknown = next((name for name in metrics if name not in known), None)
    if unknown is not None:
        return f"no run has a figure {unknown!r}{nearest(unknown, known)}"
    if not a or not b:
        return f"{'A' if not a else 'B'} has no runs: there is nothing to compare"
    one = left[0]
    return f"A and B have nothing in common: {one.key.path}: {one.reason}"


def _side(engine: str, runs: Sequence[Result], metric: str) -> Side:
    values = _values(runs, metric)
    mean, spread = (float(np.mean(values)) if values else None), None
    if len(values) > 1:
        spread = float(np.std(values, ddof=1))
    return Side(
        engine, len(runs), sum(not _finished(run) for run in runs), mean, spread, len(values)
    )


def _more_diverged(pair: Pair) -> float | None:
    """Fisher's exact test of how many diverged; None where none did."""
    table = [
        [sum(not _finished(run) for run in runs), sum(map(_finished, runs))]
        for runs in (pair.a, pair.b)
    ]
    return float(stats.fisher_exact(table).pvalue) if table[0][0] or table[1][0] else None


def _measure(pair: Pair, metric: str, alpha: float) -> Comparison:
    """The difference of a pair, not yet judged."""
    sides = _side(pair.engines[0], pair.a, metric), _side(pair.engines[1], pair.b, metric)
    found = Comparison(pair.key, metric, Relation.UNDECIDED, "", *sides)
    a, b = ([run for run in runs if _values([run], metric)] for runs in (pair.a, pair.b))
    if min(len(a), len(b)) < 2:
        return found
    gap = difference(b, a, metric)
    p = rearranged(gap, b, a, metric) if gap.p < alpha else gap.p
    return replace(found, difference=gap, p=p)


def _judge(
    one: Comparison, diverged: float | None, margin: float, alpha: float, tests: int
) -> Comparison:
    """The relation, and why."""
    assert one.a is not None
    assert one.b is not None
    counts = [f"{side.diverged} of {side.runs}" for side in (one.a, one.b)]
    lost = f"; {counts[0]} runs of A diverged, {counts[1]} of B" if diverged is not None else ""
    if diverged is not None and diverged < alpha:
        return replace(
            one, relation=Relation.DIFFERS, reason=f"{lost[2:]}: p {diverged:.2g} (Fisher, Holm)"
        )
    gap = one.difference
    if gap is None:
        few = min(side.figures for side in (one.a, one.b))
        reason = (
            f"{few} run{'s' if few != 1 else ''} with this figure on one side: each takes 2{lost}"
        )
        return replace(one, reason=reason, more_runs=max(2 - few, 1))
    few = min(side.runs - side.diverged for side in (one.a, one.b))
    # Two runs that agree to the last digit have not shown that none would stray.
    if gap.within(margin) < alpha and (gap.error or few >= FEWEST_PAIRS):
        return replace(one, relation=Relation.SAME, reason=f"inside ±{margin:g} ({gap.how}){lost}")
    if one.adjusted is not None and one.adjusted < alpha:
        beyond = gap.low > margin or gap.high < -margin
        size = f"beyond ±{margin:g}" if beyond else f"though perhaps by no more than {margin:g}"
        return replace(one, relation=Relation.DIFFERS, reason=f"{size} ({gap.how}){lost}")
    more = more_runs(gap, few, margin, alpha, tests) if gap.error else max(FEWEST_PAIRS - few, 1)
    decide = (
        f"about {more} more of each side would decide it"
        if more
        else "a thousand more would not decide it"
    )
    return replace(one, reason=f"{decide} ({gap.how}){lost}", more_runs=more)
