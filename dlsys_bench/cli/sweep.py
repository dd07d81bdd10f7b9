"""Speed by the size of the work."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dlsys_bench.cli.measuring import arms_of, output_of, places_of, study_and_engines, write_beside
from dlsys_bench.cli.options import data_dir
from dlsys_bench.cli.terminal import say


@click.command("sweep")
@study_and_engines
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    default=("float32",),
    show_default=True,
    type=click.Choice(["float32", "float64"]),
    help="Repeatable.",
)
@click.option(
    "--batch-size",
    "sizes",
    multiple=True,
    type=click.IntRange(min=1),
    default=(8, 32, 128, 512, 2048),
    show_default=True,
    help="Repeatable.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(min=1),
    help="Repeatable. Default: as many as an engine takes by itself.",
)
@click.option(
    "--replicas",
    multiple=True,
    type=click.IntRange(min=1),
    default=(1,),
    show_default=True,
    help="Networks trained as one; repeatable.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="A point, about.",
)
@output_of("reports/speed.jsonl")
@data_dir
def sweep_command(
    study: str,
    arms: tuple[str, ...],
    engines: tuple[str, ...],
    devices: tuple[str, ...],
    dtypes: tuple[str, ...],
    sizes: tuple[int, ...],
    threads: tuple[int, ...],
    replicas: tuple[int, ...],
    seconds: float,
    output: Path,
    data_dir: str | None,
) -> None:
    """How fast engines train STUDY by batch size, threads, precision, and replicas; tables and a
    picture beside OUTPUT.

    Each point is a process of its own, which must be seen to train. What cannot be measured is
    said, with the reason.

    Exit codes: 0 all was measured, 1 some was not, 2 usage.
    """
    from itertools import product

    from dlsys_bench.report.plots.speed import speed, tables
    from dlsys_bench.timing.sweep import Point, read, sweep

    cases = arms_of(study, arms, data_dir, output)
    places = places_of(engines, devices, dtypes)
    points = [
        Point(engine, device, dtype, case.study.name, case.arm.name, size, count, many)
        for case, (engine, device, dtype), size, count, many in product(
            cases, places, sizes, threads or (None,), replicas
        )
    ]
    lost = 0
    for number, (point, found) in enumerate(sweep(points, output, seconds), start=1):
        where = f"[{number}/{len(points)}] {point}"
        if isinstance(found, str):
            lost += 1
            say(f"{where}: not measured: {found}")
        else:
            say(
                f"{where}: {found['samples_a_second']:,.0f} samples/s, {found['microseconds_a_step']:,.0f} us a step"
            )
    stored = read(output)
    if stored:
        write_beside(output, "Speed", tables(stored), speed(stored, output.with_suffix(".png")))
    sys.exit(1 if lost else 0)
