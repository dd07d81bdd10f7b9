"""Claims that compare arms: an ordering, an equivalence, the best of a grid, a trend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dlsys_bench.notebooks.rulings.pool import spreads_of
from dlsys_bench.notebooks.rulings.ruling import LEVEL, Claim, Judged, Ruling, unmeasured
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs, figures, measured, metric_of
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.difference import difference, mean_difference

MARGIN = 0.005
"""Two accuracies closer than this are called the same."""


def ordering(claim: Claim, runs: Runs) -> Judged:
    if claim["study"] == "eggholder":
        return _deeper(claim, runs)
    # The two perceptron claims are settled on the same points, start, rate and epochs for both.
    prefix = "sound/" if claim["study"] == "perceptron" else ""
    greater, lesser = (
        runs.for_claim(claim, prefix + claim[side]) for side in ("greater", "lesser")
    )
    metric = metric_of(claim)
    if not (measured(greater, metric) and measured(lesser, metric)):
        return unmeasured(claim, min(len(greater), len(lesser)))
    gap = difference(greater, lesser, metric, spreads_of(runs, greater, lesser, metric))
    ruling = (
        Ruling.REPRODUCED
        if gap.low > 0
        else Ruling.NOT_REPRODUCED
        if gap.high < 0
        else Ruling.UNDECIDED
    )
    arms = f"{greater[0].key.study}/{greater[0].key.arm} minus {lesser[0].key.study}/{lesser[0].key.arm}"
    steps = [run[0].last.steps if run[0].last else 0 for run in (greater, lesser)]
    parts = [
        f"{arms}, {gap.how}",
        "the reverse holds" if ruling is Ruling.NOT_REPRODUCED else "",
        _as_published(claim, runs, metric) if prefix else "",
        f"{steps[0]} updates against {steps[1]}" if steps[0] != steps[1] else "",
    ]
    fewest = min(len(greater), len(lesser))
    return Judged(
        claim,
        ruling,
        "; ".join(filter(None, parts)),
        f"{gap.mean:+.4f}",
        gap.interval,
        gap.p,
        fewest,
    )


def _as_published(claim: Claim, runs: Runs, metric: str) -> str:
    """What the notebook's own protocol gives on the mean of its draws."""
    greater, lesser = (
        runs.of(claim["study"], f"{claim['source']}/{claim[side]}")
        for side in ("greater", "lesser")
    )
    if not (measured(greater, metric) and measured(lesser, metric)):
        return ""
    gap = difference(greater, lesser, metric)
    return f"by the protocol of {claim['source']} itself {gap.mean:+.4f} [{gap.low:.4f}, {gap.high:.4f}]"


# Networks of nearly as many parameters (within a tenth), the shallower first. Two and three layers
# train alike; one layer has another rate, more epochs and no batch norm, so its pair says nothing
# of depth.
ALIKE = (("64-64", "64-32-64"), ("128-128", "64-128-64"), ("256-256", "128-256-128"))
CONFOUNDED = ("512", "32-32-16")


def _deeper(claim: Claim, runs: Runs) -> Judged:
    """Of as many parameters the deeper network has the lower error (as published, in training
    mode), on the mean of the pairs and in no pair the higher (Bonferroni over the pairs); and it
    takes longer."""
    pairs = [
        (runs.of("eggholder", shallow), runs.of("eggholder", deep))
        for shallow, deep in (*ALIKE, CONFOUNDED)
    ]
    metric = "test_rmse_in_training_mode"
    seeds = [
        {run.seed for run in side if run.metric(metric) is not None}
        for pair in pairs
        for side in pair
    ]
    shared = sorted(set.intersection(*seeds))
    if len(shared) < FEWEST:
        return unmeasured(claim, len(shared))
    gaps = [difference(deep, shallow, metric) for shallow, deep in pairs]
    slower = [difference(deep, shallow, "train_seconds") for shallow, deep in pairs]
    evaluated = [difference(deep, shallow, "test_rmse") for shallow, deep in pairs]
    sound = len(ALIKE)
    over_pairs = [
        float(
            np.mean(
                [
                    _of(deep, seed, metric) - _of(shallow, seed, metric)
                    for shallow, deep in pairs[:sound]
                ]
            )
        )
        for seed in shared
    ]
    whole = mean_difference(over_pairs, f"{len(shared)} seeds")
    higher = whole.low > 0 or any(
        gap.mean > 0 and gap.p < (1 - LEVEL) / sound for gap in gaps[:sound]
    )
    faster = any(gap.high < 0 for gap in slower[:sound])
    longer = sum(gap.low > 0 for gap in slower[:sound])
    holds = whole.high < 0 and longer == sound
    ruling = (
        Ruling.NOT_REPRODUCED
        if higher or faster
        else Ruling.REPRODUCED
        if holds
        else Ruling.UNDECIDED
    )
    parts = [
        f"{deep} against {shallow}: RMSE {gap.mean:+.1f} [{gap.low:.1f}, {gap.high:.1f}], "
        f"in eval mode [{other.low:.1f}, {other.high:.1f}], seconds [{time.low:+.2f}, {time.high:+.2f}]"
        for (shallow, deep), gap, other, time in zip(
            (*ALIKE, CONFOUNDED), gaps, evaluated, slower, strict=True
        )
    ]
    reason = (
        f"RMSE of three layers minus two, mean of {sound} pairs of as many parameters, {whole.how}; "
        f"{longer} of {sound} pairs take longer when deeper; {'; '.join(parts)} (one layer trains at another rate, "
        "without batch norm, for 50 epochs instead of 20: this pair does not count)"
    )
    return Judged(claim, ruling, reason, f"{whole.mean:+.1f}", whole.interval, whole.p, len(shared))


def _of(runs: Sequence[Result], seed: int, metric: str) -> float:
    return next(float(run.figures[metric]) for run in runs if run.seed == seed)


def equivalence(claim: Claim, runs: Runs) -> Judged:
    """Two one-sided tests within MARGIN."""
    a, b = (runs.for_claim(claim, arm) for arm in claim["arms"])
    metric = metric_of(claim)
    if not (measured(a, metric) and measured(b, metric)):
        return unmeasured(claim, min(len(a), len(b)))
    gap = difference(a, b, metric, spreads_of(runs, a, b, metric))
    inside = gap.low > -MARGIN and gap.high < MARGIN
    apart = gap.low > MARGIN or gap.high < -MARGIN
    ruling = Ruling.REPRODUCED if inside else Ruling.NOT_REPRODUCED if apart else Ruling.UNDECIDED
    reason = f"two one-sided tests within ±{MARGIN:g}, {gap.how}"
    return Judged(
        claim, ruling, reason, f"{gap.mean:+.4f}", gap.interval, None, min(len(a), len(b))
    )


def argmin(claim: Claim, runs: Runs) -> Judged:
    """The best of a grid, parted from every other by a paired test (Bonferroni over the others). A
    value at which a run diverged is out of the running."""
    arms = {f"{value:g}": runs.of(claim["study"], f"{value:g}") for value in claim["grid"]}
    metric = "running_loss"
    if not all(len(mine) >= FEWEST for mine in arms.values()):
        return unmeasured(claim, min(map(len, arms.values())))
    lost = {
        name: count
        for name, mine in arms.items()
        if (count := sum(run.status != "finished" for run in mine))
    }
    running = {name: mine for name, mine in arms.items() if name not in lost}
    means = {name: float(figures(mine, metric).mean()) for name, mine in running.items()}
    best, second = sorted(means, key=means.__getitem__)[:2]
    others = {
        name: difference(mine, running[best], metric)
        for name, mine in running.items()
        if name != best
    }
    bound = (1 - LEVEL) / len(others)
    near = [name for name, gap in others.items() if not (gap.mean > 0 and gap.p < bound)]
    next_best = others[second]
    right = best == f"{claim['value']:g}"
    ruling = Ruling.UNDECIDED if near else Ruling.REPRODUCED if right else Ruling.NOT_REPRODUCED
    parts = [
        f"{best} is best; {second}, the next, has a training loss higher by {next_best.mean:.4f} ({next_best.how})",
        f"not parted from {', '.join(near)}" if near else "",
        *(f"at {name}, {count} of {len(arms[name])} runs diverged" for name, count in lost.items()),
    ]
    fewest = min(map(len, running.values()))
    return Judged(
        claim, ruling, "; ".join(filter(None, parts)), best, next_best.interval, next_best.p, fewest
    )


def monotone(claim: Claim, runs: Runs) -> Judged:
    """Every step of the grid is up, by a paired interval each (Bonferroni over the steps)."""
    arms = [runs.of(claim["study"], str(value)) for value in claim["grid"]]
    metric = "running_loss"
    if not all(measured(mine, metric) for mine in arms):
        return unmeasured(claim, min(map(len, arms)))
    steps = [difference(b, a, metric) for a, b in pairwise(arms)]
    bound = (1 - LEVEL) / len(steps)
    up = [step.mean > 0 and step.p < bound for step in steps]
    down = [step.mean < 0 and step.p < bound for step in steps]
    ruling = (
        Ruling.REPRODUCED if all(up) else Ruling.NOT_REPRODUCED if any(down) else Ruling.UNDECIDED
    )
    open_steps = [
        f"{a} to {b}" for (a, b), good in zip(pairwise(claim["grid"]), up, strict=True) if not good
    ]
    reason = "; not ".join(
        [f"{sum(up)} of {len(up)} doublings raise the loss", *filter(None, [", ".join(open_steps)])]
    )
    means = ", ".join(f"{figures(mine, metric).mean():.3f}" for mine in arms)
    return Judged(
        claim, ruling, reason, means, None, max(step.p for step in steps), min(map(len, arms))
    )
