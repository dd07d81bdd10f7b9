"""Claims that compare arms: an ordering, an equivalence, the best of a grid, a trend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import stats

from dlsys_bench.result import Result
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
    reason = f"{claim['greater']} minus {claim['lesser']}, {how}" + (
        ": the reverse holds" if ruling is Ruling.NOT_REPRODUCED else ""
    )
    return Judged(claim, ruling, reason, f"{mean:+.4f}", interval, p, min(len(greater), len(lesser)))


# Networks of nearly as many parameters (within a tenth), the shallower first.
ALIKE = (("512", "32-32-16"), ("64-64", "64-32-64"), ("128-128", "64-128-64"), ("256-256", "128-256-128"))


def _deeper(claim: Claim, runs: Runs) -> Judged:
    """Pairs of as many parameters: the deeper one has the lower error (as published, in training mode), on the mean of
    the pairs and in no pair the higher (Bonferroni over the pairs), and takes longer."""
    pairs = [(runs.of("eggholder", shallow), runs.of("eggholder", deep)) for shallow, deep in ALIKE]
    if not all(measured(side, "test_rmse") for pair in pairs for side in pair):
        return unmeasured(claim, min(len(side) for pair in pairs for side in pair))
    metric = "test_rmse_in_training_mode"
    lower = [difference(deep, shallow, metric) for shallow, deep in pairs]
    slower = [difference(deep, shallow, "train_seconds")[1] for shallow, deep in pairs]
    evaluated = [difference(deep, shallow, "test_rmse")[1] for shallow, deep in pairs]
    by_seed = [
        np.mean([_of(deep, seed, metric) - _of(shallow, seed, metric) for shallow, deep in pairs])
        for seed in sorted(set.intersection(*({run.seed for run in side} for pair in pairs for side in pair)))
    ]
    mean, error = float(np.mean(by_seed)), float(np.std(by_seed, ddof=1)) / np.sqrt(len(by_seed))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(by_seed) - 1)) * error
    reversed_ = mean - half > 0 or any(gap > 0 and p < (1 - LEVEL) / len(pairs) for gap, _, p, _ in lower)
    ruling = Ruling.NOT_REPRODUCED if reversed_ else Ruling.REPRODUCED if mean + half < 0 else Ruling.UNDECIDED
    parts = [
        f"{deep} against {shallow}: RMSE {gap:+.1f} [{low:.1f}, {high:.1f}], in eval mode [{a:.1f}, {b:.1f}], "
        f"seconds [{fast:+.2f}, {slow:+.2f}]"
        for (shallow, deep), (gap, (low, high), _, _), (a, b), (fast, slow) in zip(
            ALIKE, lower, evaluated, slower, strict=True
        )
    ]
    longer = sum(low > 0 for low, _ in slower)
    reason = (
        f"RMSE of the deeper minus the shallower, mean of {len(pairs)} pairs of as many parameters and "
        f"{len(by_seed)} seeds; "
        f"{longer} of {len(pairs)} pairs take longer when deeper (one layer trains 50 epochs, more train 20); "
    )
    p = 2 * float(stats.t.sf(abs(mean) / error, len(by_seed) - 1))
    return Judged(
        claim, ruling, reason + "; ".join(parts), f"{mean:+.1f}", (mean - half, mean + half), p, len(by_seed)
    )  # fmt: skip


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
    """The best of a grid, parted from every other by a paired interval."""
    arms = {f"{value:g}": runs.of(claim["study"], f"{value:g}") for value in claim["grid"]}
    metric = "running_loss"
    finished = {name: mine for name, mine in arms.items() if measured(mine, metric)}
    if any(not mine for mine in arms.values()) or len(finished) < 2:
        return unmeasured(claim, min(map(len, arms.values())))
    means = {name: float(figures(mine, metric).mean()) for name, mine in finished.items()}
    best, second = sorted(means, key=means.__getitem__)[:2]
    gap, interval, p, how = difference(finished[second], finished[best], metric)
    right, parted = best == f"{claim['value']:g}", interval[0] > 0
    ruling = Ruling.UNDECIDED if not parted else Ruling.REPRODUCED if right else Ruling.NOT_REPRODUCED
    lost = [name for name in arms if name not in finished]
    reason = f"{best} is best; {second}, the next, has a training loss higher by {gap:.4f} ({how})" + (
        f"; {', '.join(lost)} diverged" if lost else ""
    )
    return Judged(claim, ruling, reason, best, interval, p, min(len(mine) for mine in finished.values()))


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
