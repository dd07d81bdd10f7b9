"""Compare two sets of runs figure by figure: before and after an upgrade, two engines, CPU and GPU.

SAME and DIFFERS each need evidence. SAME: two one-sided t tests place the difference inside
+-margin, each at level `alpha`, and the tails agree: no run lies far outside the range of the other
side, and no exact test finds another spread or another tail. DIFFERS: a test against equal means,
or against equal tails, is significant at level `alpha` over all rows of the table (Holm 1979). If
neither holds, it is UNDECIDED.

If two engines share several arms, the comparison over all arms (`all_arms`) has SESSION_SHARE of
`alpha`, and the rows have the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import numpy as np
import scipy

from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import UserError, count_of, nearest
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.budget import SESSION_SHARE
from dlsys_bench.verdicts.comparison import Comparison, Relation, Side, judge
from dlsys_bench.verdicts.correlation import Correlation, correlation
from dlsys_bench.verdicts.difference import (
    difference,
    figures_by_seed,
    holm,
)
from dlsys_bench.verdicts.pairing import Pair, pair
from dlsys_bench.verdicts.permutation import larger_p_value
from dlsys_bench.verdicts.tails import tails

MARGIN = 0.005
EPOCH_FIGURES = tuple(
    field.name for field in fields(Epoch) if field.name not in ("epoch", "steps", "by_step")
)


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
        for name in metrics or metrics_of(both):
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
    seeds = correlations(rows)
    first = [_measure(both, name, margin, alpha, seeds[both.engines, name]) for both, name in rows]
    p_values = [
        *(one.p for one in first),
        *(one.tails.p if one.tails else None for one in first),
        *lost.values(),
    ]
    # The comparison over all arms has its own share of alpha.
    several = max(Counter(both.engines for both in lost).values()) > 1
    rate = 1 - SESSION_SHARE if several else 1.0
    adjusted = [None if q is None else min(1.0, q / rate) for q in holm(p_values)]
    of_pair = dict(zip(lost, adjusted[2 * len(first) :], strict=True))
    tests = sum(p is not None for p in p_values)
    return [
        judge(
            replace(one, adjusted=q, adjusted_tails=of_tails),
            of_pair[both],
            margin,
            alpha,
            round(tests / rate),
        )
        for (both, _), one, q, of_tails in zip(
            rows, first, adjusted, adjusted[len(first) :], strict=False
        )
    ]


def correlations(
    rows: Iterable[tuple[Pair, str]],
) -> dict[tuple[tuple[str, str], str], Correlation]:
    """Return the correlation at equal seeds of each pair of engines and figure, over all arms."""
    samples: dict[tuple[tuple[str, str], str], list[tuple[dict[int, float], dict[int, float]]]] = {}
    for both, name in rows:
        figures = figures_by_seed(both.a, name), figures_by_seed(both.b, name)
        samples.setdefault((both.engines, name), []).append(figures)
    return {key: correlation(found) for key, found in samples.items()}


def metrics_of(pair: Pair) -> list[str]:
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
        return f"no run has a metric {unknown!r}{nearest(unknown, known)}"
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
    return float(scipy.stats.fisher_exact(table).pvalue) if table[0][0] or table[1][0] else None


def _measure(
    pair: Pair, metric: str, margin: float, alpha: float, at_equal_seeds: Correlation
) -> Comparison:
    """Return the difference of a pair, not yet judged."""
    sides = _side(pair.engines[0], pair.a, metric), _side(pair.engines[1], pair.b, metric)
    found = Comparison(pair.key, metric, Relation.UNDECIDED, "", *sides)
    a, b = ([run for run in runs if _values([run], metric)] for runs in (pair.a, pair.b))
    if min(len(a), len(b)) < 2:
        return found
    gap = difference(b, a, metric, at_equal_seeds=at_equal_seeds)
    p = larger_p_value(gap, b, a, metric) if gap.p < alpha else gap.p
    ends = tails(_values(a, metric), _values(b, metric), margin)
    return replace(found, difference=gap, p=p, tails=ends)
