"""The gate of an arm: train with new seeds until it is judged."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import share_random_numbers
from dlsys_bench.errors import UserError
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import OnEpoch, run
from dlsys_bench.runs.store import find_reference, reference_runs
from dlsys_bench.studies.base import Case
from dlsys_bench.verdicts.budget import share
from dlsys_bench.verdicts.candidate import Candidate, OnRun, run_until_decided, value_of
from dlsys_bench.verdicts.decision import Decision
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.terms import DEFAULT, Terms
from dlsys_bench.verdicts.verdict import Outcome, Verdict

EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}


def gate_for(
    case: Case, dataset: Dataset, tier: str, terms: Terms = DEFAULT
) -> tuple[SequentialGate, list[Result]]:
    """Return the gate of an arm, and the reference runs that it holds new runs to.

    Raises UserError if the terms are invalid, but not yet if no gate detects the requested shift.
    """
    arm, metric = case.arm, case.study.metric
    terms = terms.for_metric(metric)
    source, recipe = find_reference(case.study.name, dataset.name, tier), arm.recipe(tier)
    stored = _without_repeats(reference_runs(source, arm.name, arm.protocol(tier)))
    samples = min(len(dataset.x_test), recipe.evaluate or len(dataset.x_test))
    sequential = SequentialGate(
        [value_of(run, metric, terms.side) for run in stored],
        **terms.options(),
        resolution=metric.resolution(arm.networks.get(tier) or samples),
        source=f"{source.parent.name}/{source.name}{_engines_of(stored)}"
        f"{'' if stored else _superseded_in(source, case, tier)}",
    )
    return sequential, stored


def check_terms(case: Case, dataset: Dataset, tier: str, terms: Terms) -> None:
    """Raise UserError if the gate of an arm cannot detect the requested shift."""
    if not _is_judged_by_its_record(case, dataset, tier):
        try:
            gate_for(case, dataset, tier, terms)[0].check_shift()
        except UserError as error:
            raise UserError(f"{case.name} on {dataset.name}, tier {tier}: {error}") from None


def _is_judged_by_its_record(case: Case, dataset: Dataset, tier: str) -> bool:
    """Return True if the record of an arm decides without statistics."""
    return case.arm.bound is not None or bool(case.arm.reason_unjudged(dataset.name, tier))


def _without_repeats(runs: Sequence[Result]) -> list[Result]:
    """Return the runs without those that repeat the seed of an earlier one, by an engine that draws
    the same random numbers: both are one draw."""
    kept = list[Result]()
    for one in runs:
        same_seed = (other.key.engine for other in kept if other.seed == one.seed)
        if not any(share_random_numbers(one.key.engine, engine) for engine in same_seed):
            kept.append(one)
    return kept


def _engines_of(runs: Sequence[Result]) -> str:
    """Return the number of runs of each engine in parentheses, "" for those of one engine."""
    counts = Counter(run.key.engine for run in runs)
    return f" ({', '.join(f'{n} of {name}' for name, n in counts.items())})" * (len(counts) > 1)


def _superseded_in(source: Path, case: Case, tier: str) -> str:
    """Return the number of runs in a file by superseded protocols of an arm, "" for none."""
    found = [
        (len(reference_runs(source, arm.name, arm.protocol(tier))), past)
        for past in case.study.superseded
        for arm in past.arms
        if arm.name == case.arm.name and tier in arm.recipes
    ]
    return "".join(
        f" (which has {n} by a superseded protocol, {past.name}: {past.reason})"
        for n, past in found
        if n
    )


def gate(
    case: Case,
    engine: Engine,
    dataset: Dataset,
    *,
    tier: str,
    terms: Terms = DEFAULT,
    on_result: OnRun | None = None,
    on_epoch: OnEpoch | None = None,
) -> Verdict:
    """Train one arm with as many seeds as necessary and return the verdict.

    The verdict is also FAIL if a figure of an arm with a `bound` exceeds it, UNJUDGED if the arm is
    not judged at this tier or a run of an arm that may diverge does, and INCONCLUSIVE if a seed is
    among those of the reference runs. Raises UserError before anything is trained if no gate with
    these terms detects the requested shift. `on_result` receives each run as it ends, with all its
    figures; without it only the judged figure is evaluated.
    """
    metric = case.study.metric
    sequential, stored = gate_for(case, dataset, tier, terms)
    if not _is_judged_by_its_record(case, dataset, tier):
        sequential.check_shift()

    def train(seed: int) -> Result:
        only = metric if on_result is None else None
        return run(case, engine, dataset, tier=tier, seed=seed, on_epoch=on_epoch, only=only)

    own = {run.seed for run in stored if share_random_numbers(run.key.engine, engine.label)}
    options = ["--engine", engine.origin, "--device", engine.device]
    options += ["--dataset", dataset.name, "--tier", tier]
    options += [] if case.scaling is None else ["--scaling", case.scaling]
    candidate = Candidate(
        Key.of(case, engine, dataset, tier, None),
        metric,
        train,
        shlex.join(["dlsys-bench", "gate", case.target, *options, *terms.arguments()]),
        frozenset() if case.arm.bound is not None else own,
        tuple(run.seed for run in stored),
        _early_decision(case, case.arm.reason_unjudged(dataset.name, tier)),
    )
    terms = replace(terms.for_metric(metric), jobs=terms.jobs if engine.threaded else 1)
    return run_until_decided(candidate, sequential, terms, on_result)


def _early_decision(
    case: Case, unjudged: str | None
) -> Callable[[Sequence[Result]], Decision | None] | None:
    """Return the rule by which the record of an arm decides alone, or None if it has none."""
    arm, metric = case.arm, case.study.metric
    if arm.bound is None and not unjudged and not arm.may_diverge:
        return None

    def decide(results: Sequence[Result]) -> Decision | None:
        values = tuple(value_of(run, metric) for run in results)
        broken = next((run for run in results if run.status != "finished"), None)
        if broken is not None and arm.may_diverge:
            reason = f"seed {broken.seed}: {broken.reason}"
            return Decision(Outcome.UNJUDGED, reason, values)
        if arm.bound is not None:
            inside = values[-1] <= arm.bound
            where = f"{'within' if inside else 'above'} the rounding bound {arm.bound:g}"
            outcome = Outcome.PASS if inside else Outcome.FAIL
            return Decision(outcome, f"{values[-1]:.2g} is {where}", values)
        return Decision(Outcome.UNJUDGED, unjudged, values) if unjudged else None

    return decide


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Return FAIL if any failed, else INCONCLUSIVE if any is, else PASS.

    If none was judged, it is INCONCLUSIVE.
    """
    found = set(outcomes) - {Outcome.UNJUDGED}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return Outcome.PASS if found else Outcome.INCONCLUSIVE


__all__ = [
    "DEFAULT",
    "EXIT_CODES",
    "OnRun",
    "Terms",
    "gate",
    "gate_for",
    "overall",
    "share",
    "value_of",
]
