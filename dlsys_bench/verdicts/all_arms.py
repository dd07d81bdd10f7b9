"""The comparison of two sets of runs over all arms that both have.

A small difference in every arm is invisible in each row of a table of comparisons. This test adds
up the evidence: within each arm, the runs of both sides are ranked, and the ranks of all arms are
added with van Elteren's weights (1960). The arms of a study are not independent, since runs of one
seed begin with the same weights: in a sweep of learning rates, the accuracies at equal seeds have
correlations of 0.6. The p-value is therefore that of a permutation test in which all runs of a seed
change sides as one, which is exact whatever the dependence between the arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, inf, pi, prod, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import count_of
from dlsys_bench.runs.direction import better_of
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.budget import SESSION_SHARE
from dlsys_bench.verdicts.compare import metrics_of
from dlsys_bench.verdicts.correlation import CORRELATED, FiguresBySeed, correlation
from dlsys_bench.verdicts.pairing import Pair, pair
from dlsys_bench.verdicts.ranks import doubled_ranks

PERMUTATIONS = 19_999
"""The number of random permutations. With the observed one, the p-value is a multiple of 5e-5."""


class ArmSides(NamedTuple):
    """The figures of an arm in A and in B by seed.

    The higher is the better. A run that diverged has -inf.
    """

    a: FiguresBySeed
    b: FiguresBySeed


@dataclass(frozen=True)
class ArmsComparison:
    """The comparison of two engines over several arms.

    `shift` is the common shift from A to B in standard deviations of the figures, negative if B is
    worse. `smallest_p` is the p-value of the most extreme outcome.
    """

    engines: tuple[str, str]
    arms: int
    runs: int
    shift: float
    p: float
    alpha: float
    smallest_p: float

    @property
    def differs(self) -> bool:
        """Return True if B differs from A at the level alpha."""
        return self.p <= self.alpha

    def message(self) -> str:
        """Return the comparison in one sentence."""
        found = (
            f"{self.engines[0]} (A) and {self.engines[1]} (B), {count_of(self.runs, 'run')} of "
            f"{count_of(self.arms, 'arm')} together: a shift of {self.shift:+.2f} standard "
            f"deviations, p-value {self.p:.2g} (alpha {self.alpha:.2g})"
        )
        return f"{found}: {self.verdict}"

    @property
    def verdict(self) -> str:
        """The verdict in a few words."""
        if self.differs:
            return f"DIFFERS: B is {'worse' if self.shift < 0 else 'better'} as a whole"
        if self.smallest_p > self.alpha:
            return "with so few seeds, no outcome would be significant"
        return "no common shift was found"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {**vars(self), "differs": self.differs, "message": self.message()}


def compare_engines(
    a: Sequence[Result], b: Sequence[Result], alpha: float = 0.05
) -> list[ArmsComparison]:
    """Compare each engine of A with its counterpart in B over all arms that both have, if several.

    The figure of an arm is the metric of its study. A user's own training with several metrics is
    left out. All these comparisons together have SESSION_SHARE of `alpha`.
    """
    by_engines: dict[tuple[str, str], list[ArmSides]] = {}
    for both in pair(a, b)[0]:
        figures = _figures(both)
        if figures is not None:
            by_engines.setdefault(both.engines, []).append(figures)
    several = {engines: arms for engines, arms in by_engines.items() if len(arms) > 1}
    each = SESSION_SHARE * alpha / max(len(several), 1)
    return [
        compare_arms(arms, engines, each, correlation(arms).p < CORRELATED)
        for engines, arms in several.items()
    ]


def compare_all_engines(results: Sequence[Result], alpha: float = 0.05) -> list[ArmsComparison]:
    """Compare every two engines that share several arms; all together with false alarms at most
    SESSION_SHARE of `alpha`."""
    by_engine: dict[tuple[str, str, str], list[Result]] = {}
    for run in results:
        key = run.key
        by_engine.setdefault((key.engine, key.device, key.dtype), []).append(run)
    both = [pair for pair in combinations(by_engine.values(), 2) if compare_engines(*pair)]
    return [found for a, b in both for found in compare_engines(a, b, alpha / len(both))]


def _figures(both: Pair) -> ArmSides | None:
    """Return the figures of an arm, or None if it has no single metric that both sides have."""
    names = metrics_of(both)
    study = studies().get(both.key.study)
    stated = better_of((*both.a, *both.b), names[0])
    higher = study.metric.higher_is_better if study else stated != "lower"
    sides = [_oriented(runs, names[0], 1 if higher is not False else -1) for runs in both[2:]]
    if len(names) > 1 or not all(any(map(np.isfinite, side.values())) for side in sides):
        return None
    return ArmSides(*sides)


def _oriented(runs: Sequence[Result], metric: str, sign: int) -> dict[int, float]:
    """Return the figure of each run by seed, the higher the better."""
    figures = {run.seed: sign * value for run in runs if (value := run.metric(metric)) is not None}
    return {run.seed: -inf for run in runs if run.status != "finished"} | figures


def compare_arms(
    arms: Sequence[ArmSides],
    engines: tuple[str, str],
    alpha: float,
    paired: bool,
    permutations: int = PERMUTATIONS,
) -> ArmsComparison:
    """Compare B with A over all arms.

    If nothing differs, `differs` is True with probability at most alpha. With `paired`, the runs of
    A and of B with one seed change sides with each other, otherwise every seed for itself.
    """
    units = _Units(arms)
    generator = np.random.default_rng(0)
    swap = units.swap_sides if paired else units.permute_labels
    found, samples, outcomes = swap(generator, permutations)
    extreme = int((np.abs(samples) >= abs(found) - 1e-9).sum())
    pairs = sum(len(a) * len(b) / (len(a) + len(b) + 1) for a, b in arms)
    return ArmsComparison(
        engines,
        len(arms),
        sum(len(a) + len(b) for a, b in arms),
        units.statistic * sqrt(pi) / pairs,
        (1 + extreme) / (1 + len(samples)),
        alpha,
        min(1.0, max(2 / outcomes, 1 / (1 + len(samples)))),
    )


class _Units:
    """The units of the permutation test: all runs of a seed on one side.

    `scores` holds the weighted sum of the centred ranks of their runs. Units are exchangeable if
    they have runs of the same arms: those of a `group`.
    """

    def __init__(self, arms: Sequence[ArmSides]) -> None:
        scores: dict[tuple[str, int], float] = {}
        members: dict[tuple[str, int], list[int]] = {}
        for number, arm in enumerate(arms):
            names = [(side, seed) for side, of in zip("ab", arm, strict=True) for seed in of]
            values = np.array([*arm.a.values(), *arm.b.values()], np.float64)
            centred = doubled_ranks(values) - (len(values) + 1)
            for name, rank in zip(names, centred.tolist(), strict=True):
                scores[name] = scores.get(name, 0.0) + rank / (len(values) + 1)
                members.setdefault(name, []).append(number)
        self.scores = scores
        self.groups: dict[tuple[int, ...], list[tuple[str, int]]] = {}
        for name, of in members.items():
            self.groups.setdefault(tuple(of), []).append(name)
        self.statistic = sum(score for (side, _), score in scores.items() if side == "b")

    def permute_labels(
        self, generator: np.random.Generator, count: int
    ) -> tuple[float, NDArray[np.float64], int]:
        """Return the statistic, its values when the sides of the units in each group are permuted,
        and the number of different permutations."""
        found, samples, outcomes = 0.0, np.zeros(count), []
        for group in self.groups.values():
            scores = np.array([self.scores[name] for name in group])
            scores -= scores.mean()
            of_b = np.array([side == "b" for side, _ in group])
            found += float(scores[of_b].sum())
            drawn = generator.permuted(np.tile(of_b, (count, 1)), axis=1)
            samples += drawn @ scores
            outcomes.append(comb(len(group), int(of_b.sum())))
        return found, samples, prod(outcomes)

    def swap_sides(
        self, generator: np.random.Generator, count: int
    ) -> tuple[float, NDArray[np.float64], int]:
        """Return the statistic over the seeds of both sides, its values when A and B of random
        seeds are exchanged, and the number of different exchanges."""
        shared = [
            seed
            for group in self.groups.values()
            for side, seed in group
            if side == "b" and ("a", seed) in group
        ]
        gaps = np.array([self.scores["b", seed] - self.scores["a", seed] for seed in shared])
        signs = generator.integers(0, 2, (count, len(gaps))) * 2.0 - 1.0
        return float(gaps.sum()), signs @ gaps, 2 ** len(gaps)
