"""Claims that compare arms: an ordering, an equivalence, the best of a grid, a trend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dlsys_bench.notebooks.rulings.pool import spreads_of
from dlsys_bench.notebooks.rulings.runs import (
    AS_PUBLISHED,
    FEWEST,
    Runs,
    figures,
    measured,
    metric_of,
)
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Arm
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling, unmeasured
from dlsys_bench.verdicts.difference import LEVEL, Difference, difference, mean_difference

MARGIN = 0.005
"""Two accuracies whose difference is below this margin are equivalent."""


def join(*parts: str) -> str:
    """The parts of a reason that are not empty."""
    return "; ".join(filter(None, parts))


def ordering(claim: Claim, runs: Runs) -> Judged:
    """Test that one arm has the greater metric."""
    greater, lesser = (runs.for_claim(claim, claim[side]) for side in ("greater", "lesser"))
    metric = metric_of(claim)
    fewest = min(len(greater), len(lesser))
    if not (measured(greater, metric) and measured(lesser, metric)):
        return unmeasured(claim, fewest)
    gap = difference(greater, lesser, metric, spreads_of(runs, greater, lesser, metric))
    ruling = Ruling.UNDECIDED
    if gap.low > 0:
        ruling = Ruling.REPRODUCED
    elif gap.high < 0:
        ruling = Ruling.NOT_REPRODUCED
    a, b = greater[0].key, lesser[0].key
    updates = [run[0].last.steps if run[0].last else 0 for run in (greater, lesser)]
    reason = join(
        f"{a.study}/{a.arm} minus {b.study}/{b.arm}, {gap.how}",
        "the reverse holds" if ruling is Ruling.NOT_REPRODUCED else "",
        _as_published(claim, runs, metric),
        f"{updates[0]} updates against {updates[1]}" if updates[0] != updates[1] else "",
    )
    return Judged(claim, ruling, reason, f"{gap.mean:+.4f}", gap.interval, gap.p, fewest)


def _as_published(claim: Claim, runs: Runs, metric: str) -> str:
    """The mean difference by the published protocol, where that is not the one judged."""
    if claim["id"] not in AS_PUBLISHED:
        return ""
    greater, lesser = (runs.of(*arm) for arm in AS_PUBLISHED[claim["id"]])
    if not (measured(greater, metric) and measured(lesser, metric)):
        return ""
    gap = difference(greater, lesser, metric)
    interval = f"[{gap.low:.4f}, {gap.high:.4f}]"
    return f"by the protocol of {claim['source']} itself {gap.mean:+.4f} {interval}"


# Networks of nearly the same number of parameters (within a tenth), the shallower first. Those of
# two and of three layers are trained alike; one layer has another learning rate, more epochs and no
# batch norm, so that its pair says nothing about depth.
ALIKE = (("64-64", "64-32-64"), ("128-128", "64-128-64"), ("256-256", "128-256-128"))
CONFOUNDED = ("512", "32-32-16")
IN_TRAINING_MODE = "test_rmse_in_training_mode"
"""The published error."""


class DepthGap(NamedTuple):
    """The deeper minus the shallower network of a pair: the published error, the error in
    evaluation mode, and the seconds of a training."""

    name: str
    error: Difference
    evaluated: Difference
    seconds: Difference

    def __str__(self) -> str:
        error, other, time = self.error, self.evaluated, self.seconds
        return (
            f"{self.name}: RMSE {error.mean:+.1f} [{error.low:.1f}, {error.high:.1f}], "
            f"in evaluation mode [{other.low:.1f}, {other.high:.1f}], "
            f"seconds [{time.low:+.2f}, {time.high:+.2f}]"
        )


def deeper(claim: Claim, runs: Runs) -> Judged:
    """Test that for the same number of parameters a deeper network has the lower published error
    and takes longer to train.

    The error has to be lower on the mean of the pairs and higher in none of them (Bonferroni over
    the pairs).
    """
    pairs = {
        f"{deep} against {shallow}": (
            runs.of(claim["study"], shallow),
            runs.of(claim["study"], deep),
        )
        for shallow, deep in (*ALIKE, CONFOUNDED)
    }
    shared = _shared_seeds([side for pair in pairs.values() for side in pair])
    if len(shared) < FEWEST:
        return unmeasured(claim, len(shared))
    gaps = [
        DepthGap(
            name,
            *(
                difference(deep, shallow, metric)
                for metric in (IN_TRAINING_MODE, "test_rmse", "train_seconds")
            ),
        )
        for name, (shallow, deep) in pairs.items()
    ]
    alike = list(pairs.values())[: len(ALIKE)]
    means = [
        float(np.mean([_error(deep, seed) - _error(shallow, seed) for shallow, deep in alike]))
        for seed in shared
    ]
    return _rule_on_depth(claim, gaps, mean_difference(means, f"{len(shared)} seeds"), len(shared))


def _shared_seeds(arms: Sequence[Sequence[Result]]) -> list[int]:
    """The seeds that all arms have figures of."""
    return sorted(
        set.intersection(
            *({run.seed for run in arm if run.metric(IN_TRAINING_MODE) is not None} for arm in arms)
        )
    )


def _error(runs: Sequence[Result], seed: int) -> float:
    return next(float(run.figures[IN_TRAINING_MODE]) for run in runs if run.seed == seed)


def _rule_on_depth(claim: Claim, gaps: Sequence[DepthGap], whole: Difference, seeds: int) -> Judged:
    """The ruling on the gap of each pair and on the mean of those that are trained alike."""
    alike = gaps[: len(ALIKE)]
    bound = (1 - LEVEL) / len(alike)
    higher = whole.low > 0 or any(gap.error.mean > 0 and gap.error.p < bound for gap in alike)
    faster = any(gap.seconds.high < 0 for gap in alike)
    longer = sum(gap.seconds.low > 0 for gap in alike)
    ruling = Ruling.UNDECIDED
    if higher or faster:
        ruling = Ruling.NOT_REPRODUCED
    elif whole.high < 0 and longer == len(alike):
        ruling = Ruling.REPRODUCED
    reason = (
        f"RMSE of three layers minus two, mean of {len(alike)} pairs with nearly the same number "
        f"of parameters, {whole.how}; {longer} of {len(alike)} pairs take longer when deeper; "
        f"{'; '.join(map(str, gaps))} (one layer trains at another learning rate, without batch "
        "norm, for 50 epochs instead of 20: this pair does not count)"
    )
    return Judged(claim, ruling, reason, f"{whole.mean:+.1f}", whole.interval, whole.p, seeds)


def equivalence(claim: Claim, runs: Runs) -> Judged:
    """Test that two arms differ by less than MARGIN, by two one-sided tests."""
    a, b = (runs.for_claim(claim, arm) for arm in claim["arms"])
    metric, fewest = metric_of(claim), min(len(a), len(b))
    if not (measured(a, metric) and measured(b, metric)):
        return unmeasured(claim, fewest)
    gap = difference(a, b, metric, spreads_of(runs, a, b, metric))
    ruling = Ruling.UNDECIDED
    if gap.low > -MARGIN and gap.high < MARGIN:
        ruling = Ruling.REPRODUCED
    elif gap.low > MARGIN or gap.high < -MARGIN:
        ruling = Ruling.NOT_REPRODUCED
    reason = f"two one-sided tests within ±{MARGIN:g}, {gap.how}"
    return Judged(claim, ruling, reason, f"{gap.mean:+.4f}", gap.interval, None, fewest)


def _by_value(
    claim: Claim, runs: Runs, value_of: Callable[[Arm], float]
) -> dict[float, list[Result]]:
    """The runs of the arms of a grid, by the value that distinguishes them."""
    study = studies()[claim["study"]]
    arms = {value_of(arm): arm.name for arm in study.arms}
    return {value: runs.of(study.name, arms[value]) for value in claim["grid"]}


GRID_METRIC = "running_loss"


def _learning_rate(arm: Arm) -> float:
    return arm.recipe("full").optimizer.learning_rate


def argmin(claim: Claim, runs: Runs) -> Judged:
    """Test that a learning rate has the lowest training loss of a grid.

    It has to differ from every other one by a paired test (Bonferroni over the others). A learning
    rate at which a run diverged is excluded.
    """
    arms = {f"{rate:g}": of_arm for rate, of_arm in _by_value(claim, runs, _learning_rate).items()}
    if not all(len(of_arm) >= FEWEST for of_arm in arms.values()):
        return unmeasured(claim, min(map(len, arms.values())))
    diverged = {
        name: sum(run.status != "finished" for run in of_arm) for name, of_arm in arms.items()
    }
    finished = {name: of_arm for name, of_arm in arms.items() if not diverged[name]}
    means = {name: float(figures(of_arm, GRID_METRIC).mean()) for name, of_arm in finished.items()}
    best, second = sorted(means, key=means.__getitem__)[:2]
    gaps = {
        name: difference(of_arm, finished[best], GRID_METRIC)
        for name, of_arm in finished.items()
        if name != best
    }
    bound = (1 - LEVEL) / len(gaps)
    near = [name for name, gap in gaps.items() if not (gap.mean > 0 and gap.p < bound)]
    correct = best == f"{claim['value']:g}"
    ruling = Ruling.REPRODUCED if correct else Ruling.NOT_REPRODUCED
    gap = gaps[second]
    reason = join(
        f"{best} is best; {second}, the next, has a training loss higher by {gap.mean:.4f} "
        f"({gap.how})",
        f"not significantly different from {', '.join(near)}" if near else "",
        *(
            f"at {name}, {count} of {len(arms[name])} runs diverged"
            for name, count in diverged.items()
            if count
        ),
    )
    fewest = min(map(len, finished.values()))
    return Judged(
        claim, Ruling.UNDECIDED if near else ruling, reason, best, gap.interval, gap.p, fewest
    )


def monotone(claim: Claim, runs: Runs) -> Judged:
    """Test that the training loss rises at every step of a grid of batch sizes, by a paired test
    each (Bonferroni over the steps)."""
    arms = list(_by_value(claim, runs, lambda arm: arm.recipe("full").batch_size).values())
    fewest = min(map(len, arms))
    if not all(measured(of_arm, GRID_METRIC) for of_arm in arms):
        return unmeasured(claim, fewest)
    steps = [difference(b, a, GRID_METRIC) for a, b in pairwise(arms)]
    bound = (1 - LEVEL) / len(steps)
    up = [step.mean > 0 and step.p < bound for step in steps]
    down = [step.mean < 0 and step.p < bound for step in steps]
    ruling = Ruling.UNDECIDED
    if all(up):
        ruling = Ruling.REPRODUCED
    elif any(down):
        ruling = Ruling.NOT_REPRODUCED
    open_steps = [
        f"{a} to {b}"
        for (a, b), rises in zip(pairwise(claim["grid"]), up, strict=True)
        if not rises
    ]
    reason = f"{sum(up)} of {len(up)} doublings raise the loss"
    if open_steps:
        reason += f"; not {', '.join(open_steps)}"
    means = ", ".join(f"{figures(of_arm, GRID_METRIC).mean():.3f}" for of_arm in arms)
    return Judged(claim, ruling, reason, means, None, max(step.p for step in steps), fewest)
