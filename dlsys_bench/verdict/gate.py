"""The gate: run the arms, judge each, one budget for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.result import Epoch, Result
from dlsys_bench.run import FIRST_SEED, run
from dlsys_bench.store import reference_path, reference_runs
from dlsys_bench.studies.base import Case
from dlsys_bench.verdict.bands import SUITE_ALPHA, Outcome, Verdict, judge

EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}


def share(gates: int, budget: float = SUITE_ALPHA) -> float:
    """Each gate's part of the suite's false-alarm budget (Bonferroni)."""
    return budget / max(gates, 1)


def gate(
    case: Case, engine: Engine, dataset: Dataset, *, tier: str, seeds: int, alpha: float, first_seed: int = FIRST_SEED,
    on_result: Callable[[Result], None] | None = None, on_epoch: Callable[[Epoch], None] | None = None,
) -> Verdict:  # fmt: skip
    """Run one arm with so many seeds and judge it. `on_result` gets each run as it ends."""
    results = []
    for seed in range(first_seed, first_seed + seeds):
        results.append(run(case, engine, dataset, tier=tier, seed=seed, on_epoch=on_epoch))
        if on_result is not None:
            on_result(results[-1])
    return verdict_of(case, results, resolution=1.0 / len(dataset.x_test), alpha=alpha)


def verdict_of(case: Case, results: Sequence[Result], *, resolution: float, alpha: float) -> Verdict:
    """Judge finished runs of one arm by one engine."""
    first = results[0]
    key = (first.study, first.dataset, first.tier)
    replay = (
        f"dlsys-bench gate '{case.name}' --engine {first.engine} --device {first.device} --dataset {first.dataset} "
        f"--tier {first.tier} --seeds {len(results)} --first-seed {first.seed}"
    )
    return judge(
        results, reference_runs(first.study, first.arm, first.dataset, first.tier), case.study.metric, alpha=alpha,
        source=f"reports/reference/{reference_path(*key).name}", replay=replay, resolution=resolution,
        unjudged=case.arm.reason_unjudged(first.dataset, first.tier),
    )  # fmt: skip


def overall(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> Outcome:
    """FAIL if any failed, else INCONCLUSIVE if any is, else PASS; of nothing, INCONCLUSIVE."""
    found = set(outcomes)
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return Outcome.PASS if found else Outcome.INCONCLUSIVE
