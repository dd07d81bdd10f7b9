"""Claims that compare arms: an ordering, an equivalence, the best of a grid, a trend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import stats

from dlsys_bench.result import Result
from dlsys_bench.verdict.bands import FEWEST_RUNS
from dlsys_bench.verdict.claims.ruling import LEVEL, Claim, Judged, Ruling, unmeasured
from dlsys_bench.verdict.claims.runs import Runs, figures, measured, metric_of

MARGIN = 0.005
"""Two accuracies closer than this are called the same."""


def difference(a: Sequence[Result], b: Sequence[Result], metric: str) -> tuple[float, tuple[float, float], float, str]:
    """The mean difference a - b, its 95% interval, its p and how it was taken: paired where the seeds are the same,
    else by Welch."""
    by_seed = [{run.seed: value for run in runs if (value := run.metric(metric)) is not None} for runs in (a, b)]
    shared = sorted(set(by_seed[0]) & set(by_seed[1]))
    if len(shared) >= 3:
        pairs = np.array([by_seed[0][seed] - by_seed[1][seed] for seed in shared])
        error, freedom, how = pairs.std(ddof=1) / np.sqrt(len(pairs)), len(pairs) - 1.0, f"{len(pairs)} pairs"
        mean = float(pairs.mean())
    else:
        x, y = (np.array(list(values.values())) for values in by_seed)
        parts = [values.var(ddof=1) / len(values) for values in (x, y)]
        error, how = np.sqrt(sum(parts)), f"Welch, {len(x)} and {len(y)} runs"
        freedom = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (x, y), strict=True))
        mean = float(x.mean() - y.mean())
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * error)
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return mean, (mean - half, mean + half), p, how


def ordering(claim: Claim, runs: Runs) -> Judged:
    if claim["study"] == "eggholder":
        return _deeper(claim, runs)
    # The two perceptron claims are settled on the same points, start, rate and epochs for both.
    prefix = "sound/" if claim["study"] == "perceptron" else ""
    greater, lesser = (runs.for_claim(claim, prefix + claim[side]) for side in ("greater", "lesser"))
    metric = metric_of(claim)
    if not (measured(greater, metric) and measured(lesser, metric)):
        return unmeasured(claim, min(len(greater), len(lesser)))
    mean, interval, p, how = difference(greater, lesser, metric)
    ruling = Ruling.REPRODUCED if interval[0] > 0 else Ruling.NOT_REPRODUCED if interval[1] < 0 else Ruling.UNDECIDED
    arms = f"{greater[0].study}/{greater[0].arm} minus {lesser[0].study}/{lesser[0].arm}"
    steps = [run[0].last.steps if run[0].last else 0 for run in (greater, lesser)]
    parts = [
        f"{arms}, {how}",
        "the reverse holds" if ruling is Ruling.NOT_REPRODUCED else "",
        f"{steps[0]} updates against {steps[1]}" if steps[0] != steps[1] else "",
    ]
    reason = "; ".join(filter(None, parts))
    return Judged(claim, ruling, reason, f"{mean:+.4f}", interval, p, min(len(greater), len(lesser)))


# Networks of nearly as many parameters (within a tenth), the shallower first. Two and three layers train alike; one
# layer has another rate, more epochs and no batch norm, so its pair says nothing of depth.
ALIKE = (("64-64", "64-32-64"), ("128-128", "64-128-64"), ("256-256", "128-256-128"))
CONFOUNDED = ("512", "32-32-16")


def _deeper(claim: Claim, runs: Runs) -> Judged:
    """Of as many parameters the deeper network has the lower error (as published, in training mode), on the mean of the
    pairs and in no pair the higher (Bonferroni over the pairs); and it takes longer."""
    pairs = [(runs.of("eggholder", shallow), runs.of("eggholder", deep)) for shallow, deep in (*ALIKE, CONFOUNDED)]
    metric = "test_rmse_in_training_mode"
    seeds = [{run.seed for run in side if run.metric(metric) is not None} for pair in pairs for side in pair]
    shared = sorted(set.intersection(*seeds))
    if len(shared) < FEWEST_RUNS:
        return unmeasured(claim, len(shared))
    gaps = [difference(deep, shallow, metric) for shallow, deep in pairs]
    slower = [difference(deep, shallow, "train_seconds")[1] for shallow, deep in pairs]
    evaluated = [difference(deep, shallow, "test_rmse")[1] for shallow, deep in pairs]
    sound = range(len(ALIKE))
    by_seed = [
        float(np.mean([_of(pairs[n][1], seed, metric) - _of(pairs[n][0], seed, metric) for n in sound]))
        for seed in shared
    ]
    mean, error = float(np.mean(by_seed)), float(np.std(by_seed, ddof=1)) / np.sqrt(len(by_seed))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(by_seed) - 1)) * error
    higher = mean - half > 0 or any(gaps[n][0] > 0 and gaps[n][2] < (1 - LEVEL) / len(ALIKE) for n in sound)
    faster = any(slower[n][1] < 0 for n in sound)
    holds = mean + half < 0 and all(slower[n][0] > 0 for n in sound)
    ruling = Ruling.NOT_REPRODUCED if higher or faster else Ruling.REPRODUCED if holds else Ruling.UNDECIDED
    parts = [
        f"{deep} against {shallow}: RMSE {gap:+.1f} [{low:.1f}, {high:.1f}], in eval mode [{a:.1f}, {b:.1f}], "
        f"seconds [{fast:+.2f}, {slow:+.2f}]"
        for (shallow, deep), (gap, (low, high), _, _), (a, b), (fast, slow) in zip(
            (*ALIKE, CONFOUNDED), gaps, evaluated, slower, strict=True
        )
    ]
    longer = sum(slower[n][0] > 0 for n in sound)
    reason = (
        f"RMSE of three layers minus two, mean of {len(ALIKE)} pairs of as many parameters, {len(by_seed)} seeds; "
        f"{longer} of {len(ALIKE)} pairs take longer when deeper; {'; '.join(parts)} (one layer trains at another "
        "rate, without batch norm, for 50 epochs instead of 20: this pair does not count)"
    )
    p = 2 * float(stats.t.sf(abs(mean) / error, len(by_seed) - 1)) if error else None
    return Judged(claim, ruling, reason, f"{mean:+.1f}", (mean - half, mean + half), p, len(by_seed))


def _of(runs: Sequence[Result], seed: int, metric: str) -> float:
    return next(float(run.figures[metric]) for run in runs if run.seed == seed)


def equivalence(claim: Claim, runs: Runs) -> Judged:
    """Two one-sided tests within MARGIN."""
    a, b = (runs.for_claim(claim, arm) for arm in claim["arms"])
    metric = metric_of(claim)
    if not (measured(a, metric) and measured(b, metric)):
        return unmeasured(claim, min(len(a), len(b)))
    mean, interval, _, how = difference(a, b, metric)
    inside = interval[0] > -MARGIN and interval[1] < MARGIN
    apart = interval[0] > MARGIN or interval[1] < -MARGIN
    ruling = Ruling.REPRODUCED if inside else Ruling.NOT_REPRODUCED if apart else Ruling.UNDECIDED
    reason = f"two one-sided tests within ±{MARGIN:g}, {how}"
    return Judged(claim, ruling, reason, f"{mean:+.4f}", interval, None, min(len(a), len(b)))


def argmin(claim: Claim, runs: Runs) -> Judged:
    """The best of a grid, parted from every other by a paired test (Bonferroni over the others). A value at which a run
    diverged is out of the running."""
    arms = {f"{value:g}": runs.of(claim["study"], f"{value:g}") for value in claim["grid"]}
    metric = "running_loss"
    if not all(len(mine) >= FEWEST_RUNS for mine in arms.values()):
        return unmeasured(claim, min(map(len, arms.values())))
    lost = {name: count for name, mine in arms.items() if (count := sum(run.status != "finished" for run in mine))}
    running = {name: mine for name, mine in arms.items() if name not in lost}
    means = {name: float(figures(mine, metric).mean()) for name, mine in running.items()}
    best, second = sorted(means, key=means.__getitem__)[:2]
    others = {name: difference(mine, running[best], metric) for name, mine in running.items() if name != best}
    bound = (1 - LEVEL) / len(others)
    near = [name for name, (gap, _, p, _) in others.items() if not (gap > 0 and p < bound)]
    gap, interval, p, how = others[second]
    right = best == f"{claim['value']:g}"
    ruling = Ruling.UNDECIDED if near else Ruling.REPRODUCED if right else Ruling.NOT_REPRODUCED
    parts = [
        f"{best} is best; {second}, the next, has a training loss higher by {gap:.4f} ({how})",
        f"not parted from {', '.join(near)}" if near else "",
        *(f"at {name}, {count} of {len(arms[name])} runs diverged" for name, count in lost.items()),
    ]
    fewest = min(map(len, running.values()))
    return Judged(claim, ruling, "; ".join(filter(None, parts)), best, interval, p, fewest)


def monotone(claim: Claim, runs: Runs) -> Judged:
    """Every step of the grid is up, by a paired interval each (Bonferroni over the steps)."""
    arms = [runs.of(claim["study"], str(value)) for value in claim["grid"]]
    metric = "running_loss"
    if not all(measured(mine, metric) for mine in arms):
        return unmeasured(claim, min(map(len, arms)))
    steps = [difference(b, a, metric) for a, b in pairwise(arms)]
    bound = (1 - LEVEL) / len(steps)
    up = [mean > 0 and p < bound for mean, _, p, _ in steps]
    down = [mean < 0 and p < bound for mean, _, p, _ in steps]
    ruling = Ruling.REPRODUCED if all(up) else Ruling.NOT_REPRODUCED if any(down) else Ruling.UNDECIDED
    open_steps = [f"{a} to {b}" for (a, b), good in zip(pairwise(claim["grid"]), up, strict=True) if not good]
    reason = "; not ".join([f"{sum(up)} of {len(up)} doublings raise the loss", *filter(None, [", ".join(open_steps)])])
    means = ", ".join(f"{figures(mine, metric).mean():.3f}" for mine in arms)
    return Judged(claim, ruling, reason, means, None, max(p for _, _, p, _ in steps), min(map(len, arms)))
