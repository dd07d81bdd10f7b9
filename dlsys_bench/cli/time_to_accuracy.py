"""Measure the time that engines train until they reach an accuracy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.cli.measuring import MeasureOptions, arms_of, places_of, write_beside
from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import say
from dlsys_bench.data import Scaling
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import progress
from dlsys_bench.report.html.speed import to_accuracy_sections
from dlsys_bench.report.plots.to_accuracy import to_accuracy
from dlsys_bench.report.to_accuracy import failed_run, group_by_target, to_accuracy_tables
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.run import FIRST_SEED, choose_dataset
from dlsys_bench.timing.load import BUSY
from dlsys_bench.timing.points import of_installed_versions
from dlsys_bench.timing.to_accuracy import Run, read, train_each
from dlsys_bench.verdicts.target import target_of


@dataclass(frozen=True)
class TimeToAccuracyOptions(MeasureOptions):
    """The argument and the options of `bench time-to-accuracy`."""

    seeds: int
    dataset: str | None
    tier: str
    scaling: Scaling | None


@receives(TimeToAccuracyOptions)
def time_to_accuracy_command(options: TimeToAccuracyOptions) -> None:
    """Train every run to its target, and exit with 1 if any did not reach it, 2 if any failed."""
    check_page(options.html)
    missed, broken = _train(_runs(options), options.output)
    if results := group_by_target([*_current(options), *broken]):
        picture = to_accuracy(results, options.output.with_suffix(".png"))
        write_beside(options.output, "Time to accuracy", to_accuracy_tables(results), picture)
        sections = to_accuracy_sections(_current(options))
        write(options.html, "Time to accuracy", "measured", (), sections)
    sys.exit(2 if broken else 1 if missed else 0)


def _train(runs: Sequence[Run], output: Path) -> tuple[int, list[dict[str, Any]]]:
    """Train every run and print it. Return how many missed the target, and those that failed."""
    missed, broken = 0, []
    with progress(len(runs), "runs") as advance:
        for number, (run, found) in enumerate(train_each(runs, output), start=1):
            where = f"[{number}/{len(runs)}] {run}"
            advance(str(run), 1)
            if isinstance(found, str):
                broken.append(failed_run(run.to_dict(), found))
                say(f"{where}: failed: {found}")
            elif not found["reached"]:
                missed += 1
                say(f"{where}: never reached {run.target}: {found['reason']}")
            else:
                say(
                    f"{where}: {run.target} in {found['seconds']:.3g} s of training, "
                    f"{found['cold_seconds']:.3g} s from a cold start, {found['steps']:,} updates"
                )
    return missed, broken


def _runs(options: TimeToAccuracyOptions) -> list[Run]:
    """The runs: every engine with one seed, then every engine with the next."""
    work, places = [], places_of(options.engines, options.devices)
    for arm in arms_of(options):
        case = arm.scaled(options.scaling)
        data, note = choose_dataset(case, options.dataset, options.data_dir)
        if note:
            say(note)
        work.append((case, data.name, target_of(case, data, options.tier)))
    return [
        Run(
            Key(
                study=case.home or case.study.name,
                arm=case.arm.name,
                dataset=dataset,
                tier=options.tier,
                engine=engine,
                device=device,
                seed=seed,
                protocol=case.arm.protocol(options.tier),
            ),
            target,
        )
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds)
        for case, dataset, target in work
        for engine, device, _ in places
    ]


def _current(options: TimeToAccuracyOptions) -> Sequence[dict[str, Any]]:
    """The stored runs of the installed versions, with a remark about those of others."""
    stored = read(options.output)
    current = of_installed_versions(stored)
    if len(current) < len(stored):
        count = count_of(len(stored) - len(current), "run")
        say(f"left out: {count} in {options.output}, made with other versions")
    loads = [run["others_share"] for run in current if run["others_share"] is not None]
    if max(loads, default=0.0) > BUSY:
        say(
            f"background load: other processes used up to {max(loads):.0%} of the machine during "
            "a run, so its seconds are too long"
        )
    return current
