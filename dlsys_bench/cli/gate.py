"""Train a study and judge it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from dlsys_bench.cli.options import training_options
from dlsys_bench.cli.terminal import progress, say, show
from dlsys_bench.cli.training import Advance, steps_of_run, work_of


@click.command("gate")
@click.argument("study", default="regularization")
@training_options
@click.option("--first-seed", type=click.IntRange(min=0), default=10_000, show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-3, show_default=True,
              help="The chance that a healthy engine fails anywhere in this gate; shared over the arms.")  # fmt: skip
def gate_command(
    study: str, engine_names: tuple[str, ...], device: str, dataset: str | None, data_dir: str | None, tier: str,
    seeds: int, output: Path, as_json: bool, first_seed: int, alpha: float,
) -> None:  # fmt: skip
    """Train STUDY and hold each arm to its band. Exit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive."""
    from dlsys_bench.report.tables import verdict_table
    from dlsys_bench.store import append, opened
    from dlsys_bench.verdict.bands import Outcome
    from dlsys_bench.verdict.gate import EXIT_CODES, gate, overall, share

    work = work_of(study, engine_names, device, dataset, data_dir, tier)
    each = share(len(work), alpha)
    os.close(opened(output))
    verdicts = []
    with progress(sum(steps_of_run(case, data, tier) for case, _, data in work) * seeds) as advance:
        for case, engine, data in work:
            verdict = gate(
                case, engine, data, tier=tier, seeds=seeds, alpha=each, first_seed=first_seed,
                on_result=lambda result: append(output, result),
                on_epoch=Advance(f"{case.name} {engine.name}", advance),
            )  # fmt: skip
            verdicts.append(verdict)
            if not as_json:
                say(f"{verdict.outcome}: {verdict.message() if verdict.outcome != Outcome.PASS else verdict.reason}")
    outcome = overall([verdict.outcome for verdict in verdicts])
    if as_json:
        click.echo(
            json.dumps({"outcome": outcome, "alpha": alpha, "verdicts": [v.to_dict() for v in verdicts]}, indent=1)
        )
    else:
        show(verdict_table(verdicts, f"Gate: {outcome} (alpha {alpha:g} over {len(work)} arms, {each:.1e} each)"))
    sys.exit(EXIT_CODES[outcome])
