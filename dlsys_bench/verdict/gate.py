"""The gate: run the arms, judge each, one budget for all of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.result import Epoch, Result
from dlsys_bench.run import FIRST_SEED, run
from dlsys_bench.store import find_reference, reference_runs
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
    source, recipe = find_reference(case.study.name, dataset.name, tier), case.arm.recipe(tier)
    replay = shlex.join([
        "dlsys-bench", "gate", case.target, "--engine", engine.origin, "--device", engine.device,
        "--dataset", dataset.name, "--tier", tier, "--seeds", str(seeds), "--first-seed", str(first_seed),
        "--alpha", f"{alpha:.17g}",
    ])  # fmt: skip
    # Only what is counted comes in steps.
    evaluated = case.arm.networks.get(tier) or min(len(dataset.x_test), recipe.evaluate or len(dataset.x_test))
    counted = case.study.metric.endswith(("accuracy", "fraction"))
    return judge(
        results, reference_runs(source, case.arm.name, case.arm.protocol(tier)), case.study.metric, alpha=alpha,
        source=f"{source.parent.name}/{source.name}", replay=replay, resolution=1.0 / evaluated if counted else 0.0,
        unjudged=case.arm.reason_unjudged(dataset.name, tier), bound=case.arm.bound,
        may_diverge=case.arm.may_diverge,
    )  # fmt: skip


def overall(outcomes: Iterator[Outcome] | Sequence[Outcome]) -> Outcome:
    """FAIL if any failed, else INCONCLUSIVE if any is, else PASS; of nothing that was judged, INCONCLUSIVE."""
    found = set(outcomes) - {Outcome.UNJUDGED}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return Outcome.PASS if found else Outcome.INCONCLUSIVE
