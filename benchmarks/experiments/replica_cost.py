"""The cost of a seed of the regularisation arms with 8 replicas at once, against one network alone.

    python benchmarks/experiments/replica_cost.py [--rounds 13] [--engine numba ...]

Each engine trains epochs of one network and of 8 as one program in turn, on all cores. Results are
written to reports/speed/replicas.json and replicas.md. An engine that trains several networks only
one by one has nothing to gain and is named.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click

from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.engines.replicas import OneByOne
from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.timing.epoch_benchmark import EpochBenchmark, Workload, workloads
from dlsys_bench.timing.load import BackgroundLoad
from dlsys_bench.timing.ratio import interleave, paired_ratio

REPORTS = Path(__file__).parents[2] / "reports" / "speed"
REPLICAS, WARMUP = 8, 2
GROUP = "regularization/"


class ReplicasBenchmark:
    """A training of 8 networks as one program, of which each call trains one epoch."""

    def __init__(self, name: str, work: Workload, rounds: int) -> None:
        engine, arm = create(name), work.case.arm
        plans = [Plan(seed) for seed in range(REPLICAS)]
        model = to_convention(engine.convention, arm.model)
        self.replicas = engine.replicate(model, plans)
        self.one_by_one = isinstance(self.replicas, OneByOne)
        recipe = to_convention(engine.convention, work.recipe_of_rounds(rounds))
        self._training = contextlib.ExitStack()
        epochs = self.replicas.fit(work.samples(), recipe, plans)
        self._epochs = self._training.enter_context(contextlib.closing(epochs))
        self.losses: list[float] = []

    def __call__(self) -> None:
        """Train an epoch."""
        first, *_ = next(self._epochs)
        assert first is not None, "the first replica has diverged"
        self.losses.append(first.running_loss)

    def stop(self) -> None:
        """End the training, in which the first replica has to have learned."""
        self._training.close()
        assert self.losses[-1] < self.losses[0], "the loss has not fallen"


def measure(name: str, work: Workload, rounds: int) -> dict[str, Any] | None:
    """Return the seconds of each round of one network and of 8, None if these are one by one."""
    total = rounds + WARMUP + 1
    eight = ReplicasBenchmark(name, work, total)
    if eight.one_by_one:
        return None
    alone = EpochBenchmark(create(name), work, work.samples(), total)
    sides: dict[str, Callable[[], object]] = {"alone": alone, "eight": eight}
    interleave(sides, WARMUP)
    with BackgroundLoad() as background:
        seconds = interleave(sides, rounds)
    alone.stop()
    eight.stop()
    each = [one / REPLICAS for one in seconds["eight"]]
    ratio = paired_ratio(seconds["alone"], each)
    return {
        "engine": name,
        "work": str(work),
        "seconds": seconds,
        "microseconds_a_step": {
            "alone": 1e6 * median(seconds["alone"]) / work.steps,
            "one of eight": 1e6 * median(each) / work.steps,
        },
        "ratio": [ratio.low, ratio.median, ratio.high],
        "text": str(ratio),
        "others_share": background.fraction,
    }


def table(found: list[dict[str, Any]]) -> Table:
    """Return a row per workload and engine."""
    heads = ("step", "engine", ">alone, us", ">one of 8, us", "times as fast (95%)", "8 at once")
    rows = []
    for one in found:
        low, _, high = one["ratio"]
        verdict = "pays" if low > 1 else "does not pay" if high < 1 else "AMBIGUOUS"
        times = one["microseconds_a_step"].values()
        figures = (f"{each:,.0f}" for each in times)
        rows.append((one["work"], one["engine"], *figures, one["text"], verdict))
    return Table("Cost of a step of one network, alone and among 8", heads, rows)


@click.command()
@click.option("--rounds", default=13, help="Rounds, after two that compile.")
@click.option("--engine", "engines", multiple=True, default=("numba", "torch", "jax"))
@click.option("--work", "names", multiple=True, help="Part of the name of a workload.")
def main(rounds: int, engines: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Measure, and write the table and the raw rounds."""
    chosen = [work for work in workloads() if work.study.startswith(GROUP)]
    chosen = [work for work in chosen if not names or any(name in str(work) for name in names)]
    found, one_by_one = [], []
    for name in engines:
        if reason := unavailable(name):
            click.echo(reason)
            continue
        for work in chosen:
            result = measure(name, work, rounds)
            if result is None:
                one_by_one.append(name)
                break
            found.append(result)
            click.echo(f"{name} {work}: {result['text']} times as fast")
    page = f"# Replicas on a CPU\n\n{TEXT}\n{table(found).markdown()}"
    if one_by_one:
        page += f"\nOne by one, whatever their number: {', '.join(one_by_one)}.\n"
    if not names:
        record = {"provenance": provenance(), "points": found}
        (REPORTS / "replicas.json").write_text(json.dumps(record, indent=1) + "\n")
        (REPORTS / "replicas.md").write_text(page, encoding="utf-8")
    click.echo(page)


TEXT = f"""The time of an update of one network that trains alone on all cores, and its share of
the time when {REPLICAS} networks of different seeds train as one program, round by round in turn.
`python benchmarks/experiments/replica_cost.py` writes this page; the raw rounds are in
`replicas.json`.
"""

if __name__ == "__main__":
    main()
