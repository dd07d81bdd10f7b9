"""Measure training speed by the size of the work."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

from dlsys_bench.cli.measuring import MeasureOptions, arms_of, places_of, write_beside
from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import say
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import progress
from dlsys_bench.report.html.speed import speed_sections
from dlsys_bench.report.plots.speed import speed
from dlsys_bench.report.speed import speed_tables
from dlsys_bench.timing.sweep import Point, read, sweep


@dataclass(frozen=True)
class SweepOptions(MeasureOptions):
    """The argument and the options of `bench sweep`."""

    dtypes: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    replicas: tuple[int, ...]
    seconds: float


@receives(SweepOptions)
def sweep_command(options: SweepOptions) -> None:
    """Measure every point, and exit with 2 if any was not measured."""
    check_page(options.html)
    points, missed = _points(options), 0
    with progress(len(points), "points") as advance:
        measured = sweep(points, options.output, options.seconds)
        for number, (point, found) in enumerate(measured, start=1):
            where = f"[{number}/{len(points)}] {point}"
            advance(str(point), 1)
            if isinstance(found, str):
                missed += 1
                say(f"{where}: not measured: {found}")
            else:
                bound = found.get("roofline")
                reached = f", {bound['fraction']:.1%} of the machine's bound" if bound else ""
                say(
                    f"{where}: {found['samples_a_second']:,.0f} samples/s, "
                    f"{found['microseconds_a_step']:,.0f} us per step{reached}"
                )
    if stored := read(options.output):
        picture = speed(stored, options.output.with_suffix(".png"))
        write_beside(options.output, "Speed", speed_tables(stored), picture)
        summary = (f"{count_of(len(stored), 'point')} in {options.output}.",)
        write(options.html, "Speed of training", "measured", summary, speed_sections(stored))
    sys.exit(2 if missed else 0)


def _points(options: SweepOptions) -> list[Point]:
    cases = arms_of(options)
    places = places_of(options.engines, options.devices, options.dtypes)
    return [
        Point(
            engine,
            device,
            dtype,
            case.home or case.study.name,
            case.arm.name,
            size,
            threads,
            replicas,
            "-".join(map(case.arm.protocol, case.arm.recipes)) if case.home else "",
        )
        for case, (engine, device, dtype), size, threads, replicas in product(
            cases, places, options.batch_sizes, options.threads or (None,), options.replicas
        )
    ]
