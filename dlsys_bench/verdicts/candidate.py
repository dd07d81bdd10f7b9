"""A training under judgement, and the loop that trains it until the gate is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf
from time import perf_counter

from threadpoolctl import threadpool_limits

from dlsys_bench.errors import count_of
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.decision import Decision
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.terms import Terms
from dlsys_bench.verdicts.verdict import Outcome, Verdict

OnRun = Callable[[Result], None]


@dataclass(frozen=True)
class Candidate:
    """A training under judgement: its identity, its metric, how to train it once, and the command
    that judges it again.

    `stored_seeds` are the seeds of the reference runs in order, for arms that share seeds.
    `reference_seeds` are the seeds of the reference runs that it must not repeat. `decide_early`
    may decide from the runs so far, before any statistics.
    """

    key: Key
    metric: Metric
    train: Callable[[int], Result]
    replay: str
    reference_seeds: Set[int] = frozenset()
    stored_seeds: tuple[int, ...] = ()
    decide_early: Callable[[Sequence[Result]], Decision | None] | None = None


def value_of(result: Result, metric: Metric, side: str = "both") -> float:
    """Return a run's figure; for one that diverged, infinity in the worse direction.

    A gate with one side fails only in that direction, so that it is the worse one there.
    """
    found = result.metric(metric.name)
    if found is not None:
        return found
    return {"drop": -inf, "rise": inf}.get(side, metric.worst)


def run_until_decided(
    candidate: Candidate, sequential: SequentialGate, terms: Terms, on_result: OnRun | None = None
) -> Verdict:
    """Train with new seeds until the gate is decided, and return the verdict.

    The side of the terms is that of the gate.
    """
    started, results = perf_counter(), list[Result]()
    decision = _repeated_seed(candidate, terms)
    for seeds in _batches(sequential, terms) if decision is None else ():
        # An early decision needs one run.
        early = candidate.decide_early is not None and not results
        for batch in (seeds[:1], seeds[1:]) if early else (seeds,):
            for result in _each(batch, candidate.train, terms.jobs):
                results.append(result)
                if on_result is not None:
                    on_result(result)
            decision = candidate.decide_early(results) if candidate.decide_early else None
            if decision is not None:
                break
        values = [value_of(run, candidate.metric, terms.side) for run in results]
        decision = decision or sequential.decide(values)
        if decision is not None:
            break
    assert decision is not None
    return Verdict(
        key=candidate.key,
        metric=candidate.metric.name,
        seeds=tuple(run.seed for run in results),
        values=tuple(value_of(run, candidate.metric, terms.side) for run in results),
        outcome=decision.outcome,
        reason=f"{_measured(results, candidate.metric.name, decision)}{decision.reason}",
        replay=candidate.replay,
        band=sequential.band,
        alpha=terms.alpha,
        beta=terms.beta,
        max_seeds=terms.max_seeds,
        smallest_shift=sequential.shift,
        shift=decision.shift,
        p_value=decision.p_value,
        seconds=perf_counter() - started,
        stratum=_stratum(candidate, sequential, terms, results),
        runs=_judged_runs(candidate, sequential, results),
        warning=decision.warning,
    )


def _judged_runs(
    candidate: Candidate, sequential: SequentialGate, results: Sequence[Result]
) -> JudgedRuns | None:
    """Return all runs for the evidence over sessions; none if the record of the arm decides. If the
    gate has one side, that is the worse one."""
    if candidate.decide_early is not None or not sequential.reference:
        return None
    side, metric = sequential.side, candidate.metric
    new = [value_of(run, metric, side) for run in results]
    better = {"drop": True, "rise": False}.get(side, metric.higher_is_better)
    return JudgedRuns.of(sequential.reference, new, better, one_sided=side != "both")


BLIND_SEEDS = 2
"""The seeds of a gate that cannot decide, if it is one of several. One of each arm would halve what
all of them together show."""


def _batches(sequential: SequentialGate, terms: Terms) -> Iterator[range]:
    """Yield the seeds up to each look; at least BLIND_SEEDS if they are judged with others."""
    if sequential.obstacle and sequential.reference and terms.together:
        blind = min(BLIND_SEEDS, terms.max_seeds)
        return iter([range(terms.first_seed, terms.first_seed + blind)])
    return sequential.batches(terms.first_seed)


def _stratum(
    candidate: Candidate, sequential: SequentialGate, terms: Terms, results: Sequence[Result]
) -> Stratum | None:
    """Return the runs that are trained in any case, those up to the first look, among the reference
    runs; none if there are none."""
    first = results[: len(next(_batches(sequential, terms)))]
    runs = _judged_runs(candidate, sequential, first)
    if runs is None or not first:
        return None
    stored = candidate.stored_seeds
    return Stratum.of(runs, [*stored, *(run.seed for run in first)] if stored else ())


def _repeated_seed(candidate: Candidate, terms: Terms) -> Decision | None:
    """Return INCONCLUSIVE if a new run would repeat one of the reference runs."""
    planned = range(terms.first_seed, terms.first_seed + terms.max_seeds)
    repeated = min(candidate.reference_seeds & set(planned), default=None)
    if repeated is None:
        return None
    return Decision(
        Outcome.INCONCLUSIVE,
        f"seed {repeated} is also the seed of a reference run: a reference run cannot be "
        "judged by itself; choose another --first-seed",
        (),
    )


def _each(seeds: Sequence[int], train: Callable[[int], Result], jobs: int) -> Iterator[Result]:
    """Yield a run for each seed, in order, `jobs` at a time."""
    if jobs == 1:
        yield from map(train, seeds)
        return
    with threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(train, seeds)


MOST_NAMED = 3
"""The number of runs beyond every reference run that a verdict names."""


def _measured(results: Sequence[Result], metric: str, decision: Decision) -> str:
    """Describe the runs: the mean of those that finished, why others diverged, and which lie beyond
    every reference run, unless all do."""
    if not results:
        return ""
    finished = [value for run in results if (value := run.metric(metric)) is not None]
    lost = [f"seed {run.seed}: {run.reason}" for run in results if run.metric(metric) is None]
    if len(decision.beyond) < len(results):
        far = [results[n] for n in decision.beyond if results[n].metric(metric) is not None]
        lost += [f"seed {run.seed}: {run.metric(metric):.4f}" for run in far[:MOST_NAMED]]
        lost += [f"{len(far) - MOST_NAMED} more like it"] * (len(far) > MOST_NAMED)
    mean = f"{metric} {sum(finished) / len(finished):.4f}" if finished else metric
    return f"{mean} ({'; '.join([count_of(len(results), 'seed'), *lost])}): "
