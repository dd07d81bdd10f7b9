"""Compare two sets of runs figure by figure: before and after an upgrade, two engines, CPU and GPU.

SAME and DIFFERS each need evidence. SAME: two one-sided t tests place the difference inside
+-margin, each at level `alpha`. DIFFERS: a test against no difference is significant at level
`alpha` over all rows of the table (Holm 1979). If neither holds, it is UNDECIDED.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import UserError, count_of, nearest
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.difference import FEWEST_PAIRS, Difference, difference, holm, more_runs
from dlsys_bench.verdicts.pairing import Pair, pair
from dlsys_bench.verdicts.permutation import larger_p_value

MARGIN = 0.005
EPOCH_FIGURES = tuple(
    field.name for field in fields(Epoch) if field.name not in ("epoch", "steps", "by_step")
)


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
    and standard deviation stay as they are.
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
        }


def compare(
    a: Sequence[Result],
    b: Sequence[Result],
    *,
    metrics: Sequence[str] = (),
    margin: float = MARGIN,
    alpha: float = 0.05,
) -> list[Comparison]:
    """Compare every figure that both sets have by the same protocol.

    The figures are the `metrics`, by default the one that the study is judged by, or all figures
    that the runs of a user's own training share. A figure that only one set has is left out with
    the reason. Raises UserError if there is nothing to compare or both sets are the same runs.
    """
    if a and list(a) == list(b):
        raise UserError(
            "A and B are the same runs: there is nothing to compare; select other ones after @"
        )
    pairs, unpaired = pair(a, b)
    left = [Comparison(one.key, "", Relation.LEFT_OUT, one.reason) for one in unpaired]
    rows: list[tuple[Pair, str]] = []
    for both in pairs:
        for name in metrics or _metrics(both):
            if _has(both, name):
                rows.append((both, name))
            else:
                reason = _missing(both, name)
                left.append(Comparison(both.key, name, Relation.LEFT_OUT, reason))
    if not rows:
        raise UserError(_nothing(a, b, metrics, left))
    return _judge_rows(rows, margin, alpha) + left


def _judge_rows(rows: Sequence[tuple[Pair, str]], margin: float, alpha: float) -> list[Comparison]:
    """Test every row, and judge it by p-values that are adjusted for all of them."""
    # Divergence is tested once per arm, whatever the number of its figures.
    lost = {both: _divergence_p_value(both) for both, _ in rows}
    first = [_measure(both, name, alpha) for both, name in rows]
    adjusted = holm([*(one.p for one in first), *lost.values()])
    of_pair = dict(zip(lost, adjusted[len(first) :], strict=True))
    tests = sum(p is not None for p in (*(one.p for one in first), *lost.values()))
    return [
        _judge(replace(one, adjusted=q), of_pair[both], margin, alpha, tests)
        for (both, _), one, q in zip(rows, first, adjusted, strict=False)
    ]


def _metrics(pair: Pair) -> list[str]:
    """Return the default metrics of a pair: that of the study, else all figures that both have."""
    if pair.key.study in studies():
        return [studies()[pair.key.study].metric.name]
    # A side whose runs all diverged has no figures: those of the other side name what is missing.
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
    """Return True if both sides have it, or one has it and all runs of the other diverged."""
    a, b = bool(_values(pair.a, metric)), bool(_values(pair.b, metric))
    return (
        (a and b)
        or (a and not any(map(_finished, pair.b)))
        or (b and not any(map(_finished, pair.a)))
    )


def _missing(pair: Pair, metric: str) -> str:
    if not any(map(_finished, (*pair.a, *pair.b))):
        return f"all {count_of(len(pair.a), 'run')} of A diverged, and all {len(pair.b)} of B"
    return f"only one side has {metric}"


def _finished(run: Result) -> bool:
    return run.status == "finished"


def _nothing(
    a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str], left: Sequence[Comparison]
) -> str:
    """Return the reason why there is nothing to compare."""
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
    mean, std = (float(np.mean(values)) if values else None), None
    if len(values) > 1:
        std = float(np.std(values, ddof=1))
    diverged = sum(not _finished(run) for run in runs)
    return Side(engine, len(runs), diverged, mean, std, len(values))


def _divergence_p_value(pair: Pair) -> float | None:
    """Test the numbers of diverged runs by Fisher's exact test; None if no run diverged."""
    table = [
        [sum(not _finished(run) for run in runs), sum(map(_finished, runs))]
        for runs in (pair.a, pair.b)
    ]
    return float(stats.fisher_exact(table).pvalue) if table[0][0] or table[1][0] else None


def _measure(pair: Pair, metric: str, alpha: float) -> Comparison:
    """Return the difference of a pair, not yet judged."""
    sides = _side(pair.engines[0], pair.a, metric), _side(pair.engines[1], pair.b, metric)
    found = Comparison(pair.key, metric, Relation.UNDECIDED, "", *sides)
    a, b = ([run for run in runs if _values([run], metric)] for runs in (pair.a, pair.b))
    if min(len(a), len(b)) < 2:
        return found
    gap = difference(b, a, metric)
    p = larger_p_value(gap, b, a, metric) if gap.p < alpha else gap.p
    return replace(found, difference=gap, p=p)


def _judge(
    one: Comparison, diverged: float | None, margin: float, alpha: float, tests: int
) -> Comparison:
    """Return the comparison with its relation and the reason."""
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
        reason = f"{count_of(few, 'run')} with this figure on one side: each needs 2{lost}"
        return replace(one, reason=reason, more_runs=max(2 - few, 1))
    few = min(side.runs - side.diverged for side in (one.a, one.b))
    # Two runs that agree to the last digit do not show that all runs would.
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
        else "not even a thousand more runs would decide it"
    )
    return replace(one, reason=f"{decide} ({gap.how}){lost}", more_runs=more)
