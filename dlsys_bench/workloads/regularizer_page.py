"""The page that ranks the regularisers, from stored runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from typing import NamedTuple

import numpy as np

from dlsys_bench.errors import count_of
from dlsys_bench.report.table import Table
from dlsys_bench.runs.result import Result
from dlsys_bench.workloads.ranking import (
    PairedValues,
    RankInterval,
    SimultaneousInterval,
    against,
    paired,
    rank_intervals,
)
from dlsys_bench.workloads.studies import STUDIES

CONTROL = "none"
FEWEST_SEEDS = 8
"""The fewest seeds of an arm that is compared."""


class JudgedFigure(NamedTuple):
    """A figure by which arms are compared, its heading, and its direction."""

    figure: str
    heading: str
    sign: int


JUDGED = (
    JudgedFigure("test_accuracy", "accuracy", 1),
    JudgedFigure("test_loss", "loss", -1),
    JudgedFigure("calibration_error", "calibration error", -1),
)

INTRODUCTION = """# Which regulariser, when

<!-- Written by benchmarks/experiments/which_regulariser.py. -->

This page compares regularisers by the stored runs of
[the studies `regularizers/...`](workloads.md#regularisers), in
`reports/reference/regularizers.*.full.jsonl`.

- Every seed draws another training set, which all arms share. Differences to `none` are paired by
  seed.
- Intervals are simultaneous at 95% over all arms of a table, for each figure: with a probability of
  0.95, all of them contain the expected difference. They are max-T intervals that take the
  differences as normal. In simulations of 20 seeds and 18 arms they cover in 94% of the samples,
  and in 82% where the arms have exponential distributions of unequal spreads.
- The rank of an arm is an interval too, simultaneous over all pairs: an arm ranks behind those that
  are better beyond the interval of their difference.
- All arms train for the same number of epochs at one learning rate, which was tuned for none of
  them. The pairs were chosen by the runs of the single regularisers of the MLP on 600 images,
  of the same seeds.
- `gap` is the training accuracy minus the test accuracy. `time` is the mean time of the training,
  relative to `none`, on a machine that other programs used as well: it is rough.
- Studies without stored runs are not in the tables.
"""


class Standing(NamedTuple):
    """The difference of an arm to the control by one figure, and its rank."""

    difference: SimultaneousInterval
    ranks: RankInterval


@dataclass(frozen=True)
class ComparedArms:
    """The arms of one study on one dataset, by the seeds that all of them have."""

    study: str
    dataset: str
    arms: Mapping[str, Mapping[int, Result]]

    @property
    def title(self) -> str:
        """The study and the dataset."""
        return f"{self.study.rpartition('/')[2]} on {self.dataset}"

    @property
    def seeds(self) -> int:
        """The number of seeds that all arms have."""
        return len(self.values("test_accuracy"))

    def values(self, figure: str) -> PairedValues:
        """Return a figure of all runs, (seeds, arms)."""
        by_seed = [
            {seed: run.figures[figure] for seed, run in runs.items()} for runs in self.arms.values()
        ]
        return paired(by_seed)[1]

    @cached_property
    def standings(self) -> dict[str, list[Standing]]:
        """The standing of each arm by each figure that is judged."""
        control = list(self.arms).index(CONTROL)
        found = {}
        for figure, _, sign in JUDGED:
            values = self.values(figure)
            pairs = zip(against(values, control), rank_intervals(sign * values), strict=True)
            found[figure] = [Standing(*pair) for pair in pairs]
        return found

    def outcomes(self, judged: JudgedFigure) -> dict[str, int]:
        """Return 1 for each arm that is better than the control by a figure, -1 if it is worse, and
        0 if the interval of the difference contains zero."""
        found = {}
        for arm, (interval, _) in zip(self.arms, self.standings[judged.figure], strict=True):
            low, high = sorted(judged.sign * end for end in (interval.low, interval.high))
            found[arm] = int(low > 0) - int(high < 0)
        return found


def comparisons(runs: Iterable[Result]) -> list[ComparedArms]:
    """Return the arms of today of each study and dataset, with FEWEST_SEEDS runs or more."""
    current = [
        run
        for run in runs
        if run.status == "finished"
        and run.key.protocol == STUDIES[run.key.study].arm(run.key.arm).protocol(run.key.tier)
    ]
    order = {name: place for place, name in enumerate(STUDIES)}

    def place(run: Result) -> tuple[int, str]:
        return order[run.key.study], run.key.dataset

    found = []
    for _, group in groupby(sorted(current, key=place), place):
        by_arm: dict[str, dict[int, Result]] = {}
        for run in group:
            by_arm.setdefault(run.key.arm, {})[run.seed] = run
        enough = {
            arm.name: by_arm[arm.name]
            for arm in STUDIES[run.key.study].arms
            if len(by_arm.get(arm.name, ())) >= FEWEST_SEEDS
        }
        if CONTROL in enough and len(enough) > 1:
            found.append(ComparedArms(run.key.study, run.key.dataset, enough))
    return found


def page(runs: Iterable[Result]) -> str:
    """Return the page in Markdown."""
    found = comparisons(runs)
    answers = [_overview(found), *(_answer(judged, found) for judged in JUDGED)]
    parts = [INTRODUCTION, "## Answer\n", *(t.markdown() for t in answers), "## Figures\n"]
    return "\n".join([*parts, *(_figures(each).markdown() for each in found)])


def _overview(found: Sequence[ComparedArms]) -> Table:
    """Return a table of the numbers of comparisons in which each arm is better or worse than the
    control."""
    outcomes = [{judged: each.outcomes(judged) for judged in JUDGED} for each in found]
    arms = dict.fromkeys(arm for each in found for arm in each.arms if arm != CONTROL)
    rows, balances = {}, {}
    for arm in arms:
        signs = [
            [each[judged][arm] for each in outcomes if arm in each[judged]] for judged in JUDGED
        ]
        counts = [(f"{own.count(1)} of {len(own)}", str(own.count(-1))) for own in signs]
        rows[arm], balances[arm] = (arm, *chain.from_iterable(counts)), list(map(sum, signs))
    order = sorted(arms, key=balances.__getitem__, reverse=True)
    headings = ((f">{judged.heading}: better", ">worse") for judged in JUDGED)
    columns = ("arm", *chain.from_iterable(headings))
    title = f"In how many of the tables below an arm differs from `{CONTROL}`"
    return Table(title, columns, [rows[arm] for arm in order])


def _answer(judged: JudgedFigure, found: Sequence[ComparedArms]) -> Table:
    """Return a table of the arms that are better or worse than the control by one figure."""
    columns = ("network, size, dataset", ">seeds", "may be the best", "better", "worse")
    rows = []
    for each in found:
        ranked = sorted(
            zip(each.arms, each.standings[judged.figure], strict=True),
            key=lambda row: -judged.sign * row[1].difference.mean,
        )
        outcomes = each.outcomes(judged)
        rows.append(
            (
                each.title,
                str(each.seeds),
                _listed(arm for arm, standing in ranked if standing.ranks.best == 1),
                _listed(arm for arm, _ in ranked if outcomes[arm] > 0),
                _listed(arm for arm, _ in ranked if outcomes[arm] < 0),
            )
        )
    return Table(f"By {judged.heading}, against `{CONTROL}`", columns, rows)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none of them"


def _figures(each: ComparedArms) -> Table:
    """Return a table of every figure of a comparison, the most accurate arm first."""
    means = {
        name: each.values(name).mean(axis=0)
        for name in (*(judged.figure for judged in JUDGED), "gap", "epochs", "train_seconds")
    }
    seconds = means["train_seconds"] / means["train_seconds"][list(each.arms).index(CONTROL)]
    columns = ["arm", ">gap", ">epochs", ">time"]
    cells = [
        [arm, f"{gap:.3f}", f"{epochs:.1f}", f"{time:.2f}"]
        for arm, gap, epochs, time in zip(
            each.arms, means["gap"], means["epochs"], seconds, strict=True
        )
    ]
    for judged in JUDGED:
        columns += [f">{judged.heading}", f">to `{CONTROL}`", ">ranks"]
        rows = zip(
            cells,
            means[judged.figure],
            each.standings[judged.figure],
            strict=True,
        )
        for row, mean, ((difference, low, high), ranks) in rows:
            row += [
                f"{mean:.4f}",
                f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]",
                f"{ranks.best} to {ranks.worst}",
            ]
    order = np.argsort(-means["test_accuracy"], kind="stable")
    title = f"{each.title}: {count_of(each.seeds, 'seed')} of each arm"
    return Table(title, tuple(columns), [tuple(cells[place]) for place in order])
