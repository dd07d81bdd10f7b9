"""The gate of the user's own training: train with new seeds until it is judged."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.runs.callables import METRIC, Train, name_of, train_once
from dlsys_bench.runs.direction import better_of, check_better
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.candidate import Candidate, OnRun, run_until_decided, value_of
from dlsys_bench.verdicts.explanation import change_of_unit, explained
from dlsys_bench.verdicts.independence import NO_EFFECT, check_independence, train_until_different
from dlsys_bench.verdicts.repeats import repeated_seeds
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.terms import DEFAULT, Terms
from dlsys_bench.verdicts.verdict import Outcome, Verdict


def gate_training(
    train: Train,
    reference: Sequence[Result],
    *,
    metric: str | Metric | None = None,
    terms: Terms = DEFAULT,
    source: str = "the reference",
    name: str | None = None,
    on_result: OnRun | None = None,
    better: str | None = None,
) -> Verdict:
    """Judge the user's own training, `train(seed) -> metric or metrics`, by its reference runs.

    `metric` names the judged figure, if the training returns several. `better`, "higher" or
    "lower", is its direction, unless the reference runs or a Metric state it: a name is not
    interpreted. Where it is not stated, a run that diverged counts against either side. Raises
    UserError, before anything is trained if the requested shift cannot be detected; errors of the
    training itself pass through.
    """
    name, judged = name or name_of(train), find_metric(reference, metric, source, better)
    if terms.side == "drop" and judged.higher_is_better is False:
        raise UserError(
            f"lower {judged.name} is better, so side 'drop' would never fail a worse run; "
            "use 'rise' or 'both'"
        )
    for figures in (None, judged.name):
        if found := repeated_seeds(reference, figures):
            raise UserError(f"{source}: {found}: {NO_EFFECT}")
    options = ["--reference", source, "--metric", judged.name]
    if better is not None:
        options += ["--better", better]
    sequential = gate_for_training(reference, judged, terms, source)
    sequential.check_shift()
    resolved, source, values = terms.for_metric(judged), sequential.source, sequential.reference
    new: list[Result] = []
    seeds = tuple(run.seed for run in _runs_with(reference, judged))

    def on_run(result: Result) -> None:
        new.append(result)
        if on_result is not None:
            on_result(result)

    candidate = Candidate(
        Key(name, engine=CALLABLE),
        judged,
        lambda seed: _train_and_check(train, seed, name, judged.name, source),
        shlex.join(["dlsys-bench", "gate", name, *options, *terms.arguments()]),
        {run.seed for run in reference},
        # Figures that the test states have unknown seeds.
        seeds if min(seeds, default=-1) >= 0 else (),
    )
    # A user's training may use what threads cannot share: the seed of the process, or a device.
    verdict = run_until_decided(candidate, sequential, replace(resolved, jobs=1), on_run)
    if verdict.outcome is not Outcome.FAIL:
        train_until_different(candidate, new, reference, terms, on_run)
    verdict = check_independence(verdict, new, reference, judged)
    if verdict.outcome is Outcome.PASS and (unit := change_of_unit(verdict.values, values)):
        raise UserError(f"training {name!r}: {unit}: calibrate again if that is intended")
    return explained(verdict, reference, values)


def gate_for_training(
    reference: Sequence[Result], metric: Metric, terms: Terms, source: str
) -> SequentialGate:
    """Return the gate of a user's own training, without the runs that lack the figure: those from
    before the training returned it are no evidence about it."""
    having = _runs_with(reference, metric)
    if lacking := len(reference) - len(having):
        source = f"{source}, {lacking} without {metric} left out"
    terms = terms.for_metric(metric)
    values = [value_of(run, metric, terms.side) for run in having]
    return SequentialGate(values, **terms.options(), source=source)


def _runs_with(reference: Sequence[Result], metric: Metric) -> list[Result]:
    """Return the runs that have the figure, or diverged."""
    return [run for run in reference if run.status != "finished" or metric.name in run.figures]


def _train_and_check(train: Train, seed: int, name: str, metric: str, source: str) -> Result:
    """Train once. Raises UserError if the training does not return the judged figure."""
    result = train_once(train, seed, name)
    if result.status == "finished" and metric not in result.figures:
        raise UserError(
            f"training {name!r} returned no {metric!r}, which {source} has; "
            f"it returned {', '.join(result.figures)}"
        )
    return result


def find_metric(
    reference: Sequence[Result],
    asked: str | Metric | None,
    source: str,
    better: str | None = None,
) -> Metric:
    """Return the metric that was asked for, or the only one that the reference runs have, with the
    direction that is stated. Raises UserError if directions contradict each other."""
    known = list(dict.fromkeys(name for run in reference for name in run.figures))
    name = asked.name if isinstance(asked, Metric) else asked
    if name is not None and name not in known and known:
        raise UserError(
            f"{source} has no metric {name!r}{nearest(name, known)}; it has {', '.join(known)}"
        )
    if name is None and len(known) > 1:
        raise UserError(
            f"{source} has {', '.join(known)}: choose one with --metric {known[0]} "
            f"(in pytest: metric={known[0]!r})"
        )
    name = name or (known[0] if known else METRIC)
    metric = asked if isinstance(asked, Metric) else Metric(name, higher_is_better=None)
    stated = {
        where: check_better(text)
        for where, text in ((source, better_of(reference, name)), ("the gate", better))
        if text is not None
    }
    if metric.higher_is_better is not None:
        stated["the Metric"] = metric.higher_is_better
    if len(set(stated.values())) > 1:
        each = ", ".join(
            f"{'higher' if up else 'lower'} by {where}" for where, up in stated.items()
        )
        raise UserError(f"which {name} is better is stated differently: {each}")
    return replace(metric, higher_is_better=next(iter(stated.values()), None))
