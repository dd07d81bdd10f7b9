"""The chance of a difference where the two sets of runs could as well be exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.difference import Difference, pairs_of

RESAMPLES = 20_000
"""So many rearrangements are all taken, of more a sample of 9,999, by one seed: a table comes out
the same twice."""


def rearranged(gap: Difference, a: Sequence[Result], b: Sequence[Result], metric: str) -> float:
    """The larger of a difference's own p and that by rearranging the runs (Fisher 1935).

    Student's t is too sure of unequal numbers of skewed figures (5 runs against 20 of which a fifth
    collapse: 19% where 5% was said), and of figures of two values. No law can mislead the
    rearrangements; but five pairs have only 32: where the runs are parted as far as they can be,
    these can say no more and t stands, if there is a spread.
    """
    by_seed = [
        {run.seed: value for run in runs if (value := run.metric(metric)) is not None}
        for runs in (a, b)
    ]
    shared = pairs_of(*by_seed)
    x, y = (np.array([values[seed] for seed in shared or values]) for values in by_seed)
    if shared:
        signs = x - y
        p = _p((signs,), lambda d, axis: np.mean(d, axis=axis), "samples", 2 ** len(signs))
        parted = bool((signs > 0).all() or (signs < 0).all())
    else:
        p = _p(
            (x, y),
            lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
            "independent",
            _choices(len(x), len(y)),
        )
        parted = bool(x.min() > y.max() or y.min() > x.max())
    return gap.p if parted and gap.error else max(gap.p, p)


def _choices(n: int, m: int) -> float:
    from scipy.special import comb

    return float(comb(n + m, n))


def _p(data: tuple[Any, ...], statistic: Any, kind: str, number: float) -> float:
    resamples = np.inf if number <= RESAMPLES else 9999
    generator = np.random.default_rng(0)
    # Scipy calls it `rng` from 1.15 on, and takes this name too.
    test = stats.permutation_test(
        data,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=resamples,
        random_state=generator,
    )
    return float(test.pvalue)
