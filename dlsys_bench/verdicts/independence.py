"""The independence of the runs of a gate, which its tests take for granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dlsys_bench.errors import UserError
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.candidate import Candidate, OnRun
from dlsys_bench.verdicts.repeats import (
    ERROR,
    probability_of_equal_runs,
    repeated_runs,
    runs_that_are_equal,
)
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.verdict import Outcome, Verdict

NO_EFFECT = (
    "equal runs count as one, so that no gate can use them; "
    "train(seed) has to seed everything that is random with the whole seed"
)


def train_until_different(
    candidate: Candidate,
    new: Sequence[Result],
    reference: Sequence[Result],
    terms: Terms,
    on_run: OnRun,
) -> None:
    """Train further seeds while all new runs are equal, until that is no coincidence."""
    name = candidate.metric.name
    while (
        runs_that_are_equal(new, name)
        and len(new) < terms.max_seeds
        and probability_of_equal_runs(new, reference, name) > ERROR
    ):
        on_run(candidate.train(terms.first_seed + len(new)))


def check_independence(
    verdict: Verdict, new: Sequence[Result], reference: Sequence[Result], metric: Metric
) -> Verdict:
    """Return the verdict, with a remark if it is FAIL and seeds have no effect.

    Raises UserError if seeds have no effect and it is another: runs that repeat each other are no
    evidence that a training is healthy.
    """
    repeats = (repeated_runs(new, reference, figures) for figures in (None, metric.name))
    found = next(filter(None, repeats), None)
    if found is None:
        return verdict
    if verdict.outcome is not Outcome.FAIL:
        raise UserError(f"training {verdict.name!r}: {found}: {NO_EFFECT}")
    return replace(verdict, reason=f"{verdict.reason}; {found}: {NO_EFFECT}")
