"""Speed to an accuracy: how long engines train until they have learned enough."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dlsys_bench.cli.measuring import arms_of, output_of, places_of, study_and_engines, write_beside
from dlsys_bench.cli.options import data_dir
from dlsys_bench.cli.terminal import say


@click.command("time-to-accuracy")
@study_and_engines
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Runs of each engine; of fewer than 6 the median has no 95% interval.",
)
@click.option(
    "--dataset",
    help="mnist, fashion_mnist, digits, a .npz file, or package.module:callable. Default: the "
    "study's own where it is at hand, else digits.",
)
@click.option("--tier", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@output_of("reports/time-to-accuracy.jsonl")
@data_dir
def time_to_accuracy_command(
    study: str,
    arms: tuple[str, ...],
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    seeds: int,
    dataset: str | None,
    tier: str,
    output: Path,
    data_dir: str | None,
) -> None:
    """How long engines train STUDY until it is as accurate as its stored runs say; a table and a
    picture beside OUTPUT.

    The target is where the band of the stored runs of the tier ends below: 99% of healthy runs end
    their training at it or above. The figure is taken at the end of every epoch (of fewer than
    five, at every tenth of the training), and the first time that it is at the target counts. Each
    run is a process of its own, engine after engine with one seed, then with the next; one that
    never reaches the target, diverges or fails counts as one that took for ever.

    Exit codes: 0 every run reached it, 1 some did not, 2 usage, or nothing to take a target from.
    """
    from dataclasses import asdict

    from dlsys_bench.report.plots.to_accuracy import to_accuracy
    from dlsys_bench.report.to_accuracy import failed, tables, workloads
    from dlsys_bench.runs.run import FIRST_SEED, choose_dataset
    from dlsys_bench.timing.load import BUSY
    from dlsys_bench.timing.points import by_these_versions
    from dlsys_bench.timing.to_accuracy import Run, read, train_each
    from dlsys_bench.verdicts.target import target_of

    work, places = [], places_of(engines, devices)
    for case in arms_of(study, arms, data_dir, output):
        data, note = choose_dataset(case, dataset, data_dir)
        if note:
            say(note)
        work.append((case, data.name, target_of(case, data, tier)))
    runs = [
        Run(
            engine,
            device,
            case.home or case.study.name,
            case.arm.name,
            name,
            tier,
            seed,
            case.arm.protocol(tier),
            target,
        )
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        for case, name, target in work
        for engine, device, _ in places
    ]
    missed, broken = 0, []
    for number, (run, found) in enumerate(train_each(runs, output), start=1):
        where = f"[{number}/{len(runs)}] {run}"
        if isinstance(found, str):
            broken.append(failed(asdict(run), found))
            say(f"{where}: failed: {found}")
        elif not found["reached"]:
            missed += 1
            say(f"{where}: never reached {run.target}: {found['reason']}")
        else:
            say(
                f"{where}: {run.target} in {found['seconds']:.3g} s of training, {found['cold_seconds']:.3g} s from a "
                f"cold start, {found['steps']:,} updates"
            )
    stored = read(output)
    here = by_these_versions(stored)
    if len(here) < len(stored):
        say(f"left out: {len(stored) - len(here)} runs in {output} by other versions")
    shares = [run["others_share"] for run in here if run["others_share"] is not None]
    if max(shares, default=0.0) > BUSY:
        say(
            f"others took up to {max(shares):.0%} of the machine during a run: its seconds are theirs too"
        )
    if works := workloads([*here, *broken]):
        picture = to_accuracy(works, output.with_suffix(".png"))
        write_beside(output, "Time to accuracy", tables(works), picture)
    sys.exit(1 if missed or broken else 0)
