"""The gate: train seed after seed until an arm, or anyone's training, is judged."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import Epoch
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.runs.callables import ENGINE, METRIC, Train, name_of, train_once
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import FIRST_SEED, run
from dlsys_bench.runs.store import find_reference, reference_runs
from dlsys_bench.studies.base import Case
from dlsys_bench.verdicts.design import ALPHA, BETA, MAX_SEEDS
from dlsys_bench.verdicts.sequential import Decision, SequentialGate
from dlsys_bench.verdicts.verdict import Outcome, Verdict

OnResult = Callable[[Result], None]

EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}


@dataclass(frozen=True)
class Terms:
    """What a gate may cost and has to see: see SequentialGate. `jobs` runs at a time, where the
    engine allows it; of anyone's training one."""

    alpha: float = ALPHA
    beta: float = BETA
    max_seeds: int = MAX_SEEDS
    smallest_shift: float | None = None
    side: str = "both"
    first_seed: int = FIRST_SEED
    jobs: int = 1

    def of_gate(self) -> tuple[float | None, float, float, int, str]:
        """What a SequentialGate takes after its stored runs."""
        return self.smallest_shift, self.alpha, self.beta, self.max_seeds, self.side

    def arguments(self) -> list[str]:
        """The terms as the command line takes them."""
        shift = (
            []
            if self.smallest_shift is None
            else ["--smallest-shift", f"{self.smallest_shift:.17g}"]
        )
        side = [] if self.side == "both" else ["--side", self.side]
        return [
            "--max-seeds",
            str(self.max_seeds),
            "--first-seed",
            str(self.first_seed),
            "--alpha",
            f"{self.alpha:.17g}",
            "--beta",
            f"{self.beta:.17g}",
            *shift,
            *side,
        ]


DEFAULT = Terms()


def share(gates: int, budget: float = ALPHA) -> float:
    """Each gate's part of a session's false-alarm budget (Bonferroni): shared out before anything
    is trained."""
    return budget / max(gates, 1)


LESS_IS_BETTER = (
    "loss",
    "error",
    "rmse",
    "mse",
    "mae",
    "perplexity",
    "deviation",
    "fraction",
    "beta",
    "seconds",
)
"""What the name of a figure holds that is the better the smaller it is."""


def value_of(result: Result, metric: str, side: str = "both") -> float:
    """A run's figure; of one that diverged, infinite on the bad side: that on which a gate of one
    side fails, else what the figure's name says."""
    found = result.metric(metric)
    if found is not None:
        return found
    return inf if (less_is_better(metric) if side == "both" else side == "rise") else -inf


def less_is_better(metric: str) -> bool:
    """Whether a figure of this name is the better the smaller it is."""
    return any(word in metric.lower() for word in LESS_IS_BETTER)


def gate_for(
    case: Case, dataset: Dataset, tier: str, terms: Terms = DEFAULT
) -> tuple[SequentialGate, list[Result]]:
    """The gate of an arm, and the stored runs that it is made of. Errors: UserError."""
    arm, metric = case.arm, case.study.metric
    source, recipe = find_reference(case.study.name, dataset.name, tier), arm.recipe(tier)
    stored = reference_runs(source, arm.name, arm.protocol(tier))
    # Only what is counted comes in steps.
    evaluated = arm.networks.get(tier) or min(
        len(dataset.x_test), recipe.evaluate or len(dataset.x_test)
    )
    resolution = 1.0 / evaluated if metric.endswith(("accuracy", "fraction")) else 0.0
    values, where = (
        [value_of(run, metric, terms.side) for run in stored],
        f"{source.parent.name}/{source.name}",
    )
    return SequentialGate(values, *terms.of_gate(), resolution=resolution, source=where), stored


def gate(
    case: Case,
    engine: Engine,
    dataset: Dataset,
    *,
    tier: str,
    terms: Terms = DEFAULT,
    on_result: OnResult | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Verdict:
    """Train one arm with as many seeds as it takes and judge it. `on_result` gets each run as it
    ends.

    FAIL too where a figure of an arm with a `bound` lies above that; UNJUDGED where the arm says so
    of itself, or a run of one that may diverge does; INCONCLUSIVE where a seed is one of those the
    band is made of.
    """
    arm, metric = case.arm, case.study.metric
    sequential, stored = gate_for(case, dataset, tier, terms)
    unjudged = arm.reason_unjudged(dataset.name, tier)

    def of_the_arm(results: Sequence[Result]) -> Decision | None:
        """What the arm's record decides, before any statistics."""
        broken = next((run for run in results if run.status != "finished"), None)
        outcome, reason = None, ""
        if broken is not None and arm.may_diverge:
            outcome, reason = Outcome.UNJUDGED, f"seed {broken.seed}: {broken.reason}"
        elif arm.bound is not None:
            value = value_of(results[-1], metric)
            inside = value <= arm.bound
            outcome = Outcome.PASS if inside else Outcome.FAIL
            reason = f"{value:.2g} is {'within' if inside else 'above'} {arm.bound:g}, what arithmetic allows"
        elif unjudged:
            outcome, reason = Outcome.UNJUDGED, unjudged
        values = tuple(value_of(run, metric) for run in results)
        return None if outcome is None else Decision(outcome, reason, values)

    def train(seed: int) -> Result:
        return run(case, engine, dataset, tier=tier, seed=seed, on_epoch=on_epoch)

    own = (
        {run.seed for run in stored if run.key.engine == engine.name}
        if arm.bound is None
        else set()
    )
    terms = replace(terms, jobs=terms.jobs if engine.threaded else 1)
    itself = arm.bound is not None or unjudged or arm.may_diverge
    heard = _hear(sequential, terms, metric, train, own, on_result, of_the_arm if itself else None)
    place = ["--engine", engine.origin, "--device", engine.device]
    place += ["--dataset", dataset.name, "--tier", tier]
    return replace(
        heard,
        key=Key.of(case, engine, dataset, tier, None),
        replay=shlex.join(["dlsys-bench", "gate", case.target, *place, *terms.arguments()]),
    )


def gate_training(
    train: Train,
    reference: Sequence[Result],
    *,
    metric: str | None = None,
    terms: Terms = DEFAULT,
    source: str = "the reference",
    name: str | None = None,
    on_result: OnResult | None = None,
) -> Verdict:
    """Judge anyone's training, `train(seed) -> metric or metrics`, by its stored runs.

    `metric` names the one that is judged, where the training returns several. Errors: UserError;
    what the training raises is its own.
    """
    name, judged = name or name_of(train), _metric(reference, metric, source)
    if terms.side == "drop" and less_is_better(judged):
        raise UserError(
            f"a drop of {judged!r} is no harm, and side 'drop' fails nothing else; take 'rise' or 'both'"
        )
    # Runs from before a training returned this figure say nothing of it.
    having = [run for run in reference if run.status != "finished" or judged in run.figures]
    if lacking := len(reference) - len(having):
        source = f"{source}, {lacking} without {judged} left out"
    # A training of someone else's may hold what threads cannot share: a seed of the process, a
    # device.
    terms = replace(terms, jobs=1)
    values = [value_of(run, judged, terms.side) for run in having]
    sequential = SequentialGate(values, *terms.of_gate(), source=source)

    def train_and_check(seed: int) -> Result:
        result = train_once(train, seed, name)
        if result.status == "finished" and judged not in result.figures:
            known = ", ".join(result.figures)
            raise UserError(
                f"training {name!r} returned no {judged!r}, which {source} has; it returned {known}"
            )
        return result

    heard = _hear(
        sequential, terms, judged, train_and_check, {run.seed for run in reference}, on_result
    )
    place = ["--reference", source, "--metric", judged]
    return replace(
        heard,
        key=Key(name, engine=ENGINE),
        replay=shlex.join(["dlsys-bench", "gate", name, *place, *terms.arguments()]),
    )


def _hear(
    sequential: SequentialGate,
    terms: Terms,
    metric: str,
    train: Callable[[int], Result],
    own: set[int],
    on_result: OnResult | None,
    first: Callable[[Sequence[Result]], Decision | None] | None = None,
) -> Verdict:
    """Train until it is decided: by `first`, if that has something to say, else by the ranks. `own`
    are the seeds that the band is made of. The verdict lacks what was trained."""
    started, results = perf_counter(), list[Result]()
    decision = None
    if shared := sorted(own & set(range(terms.first_seed, terms.first_seed + terms.max_seeds))):
        reason = (
            f"seed {shared[0]} is one of those the band is made of: a run cannot vouch for itself"
        )
        decision = Decision(Outcome.INCONCLUSIVE, reason, ())
    for seeds in sequential.batches(terms.first_seed):
        if decision is not None:
            break
        # What the arm decides for itself is decided by its first run.
        for batch in (seeds[:1], seeds[1:]) if first and not results else (seeds,):
            for result in _each(batch, train, terms.jobs):
                results.append(result)
                if on_result is not None:
                    on_result(result)
            decision = first(results) if first and results else None
            if decision is not None:
                break
        values = [value_of(run, metric, terms.side) for run in results]
        decision = decision or sequential.decide(values)
    assert decision is not None
    said = f"{_measured(results, metric)}{decision.reason}"
    return Verdict(
        Key(),
        metric,
        tuple(run.seed for run in results),
        tuple(value_of(run, metric, terms.side) for run in results),
        decision.outcome,
        said,
        "",
        sequential.band,
        terms.alpha,
        terms.beta,
        terms.max_seeds,
        sequential.shift,
        decision.shift,
        decision.chance,
        perf_counter() - started,
    )


def _each(seeds: Sequence[int], train: Callable[[int], Result], jobs: int) -> Iterator[Result]:
    """A run for each seed, in their order, so many at a time."""
    if jobs == 1:
        yield from map(train, seeds)
        return
    from concurrent.futures import ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(train, seeds)


def _measured(results: Sequence[Result], metric: str) -> str:
    """The mean of the runs that finished, and what became of the others."""
    if not results:
        return ""
    finished = [value for run in results if (value := run.metric(metric)) is not None]
    lost = [f"seed {run.seed}: {run.reason}" for run in results if run.metric(metric) is None]
    mean = f"{metric} {sum(finished) / len(finished):.4f}" if finished else metric
    many = "1 seed" if len(results) == 1 else f"{len(results)} seeds"
    return f"{mean} ({'; '.join([many, *lost])}): "


def _metric(reference: Sequence[Result], asked: str | None, source: str) -> str:
    """The figure that is judged: the one that was asked for, or the only one there is."""
    known = list(dict.fromkeys(name for run in reference for name in run.figures))
    if asked is not None and asked not in known and known:
        raise UserError(
            f"{source} has no metric {asked!r}{nearest(asked, known)}; it has {', '.join(known)}"
        )
    if asked is None and len(known) > 1:
        raise UserError(
            f"{source} has {', '.join(known)}: name the one that is judged, metric={known[0]!r}"
        )
    return asked or (known[0] if known else METRIC)


def overall(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> Outcome:
    """FAIL if any failed, else INCONCLUSIVE if any is, else PASS; of nothing that was judged,
    INCONCLUSIVE."""
    found = set(outcomes) - {Outcome.UNJUDGED}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return Outcome.PASS if found else Outcome.INCONCLUSIVE
