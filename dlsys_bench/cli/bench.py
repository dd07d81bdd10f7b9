"""Speed: compare stored benchmarks, and measure engines on a study."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from dlsys_bench.cli.options import as_json
from dlsys_bench.cli.sweep import sweep_command
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.cli.time_to_accuracy import time_to_accuracy_command


@click.group("bench")
def bench_group() -> None:
    """Benchmarks: see also pytest --benchmark-only."""


@bench_group.command("compare")
@click.argument("a", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("b", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@as_json
def compare_command(a: Path, b: Path, as_json: bool) -> None:
    """Benchmarks A against B, files of pytest-benchmark (--benchmark-json=FILE): before and after
    an upgrade.

    For each benchmark that both have, how many times B is faster, with a 95% interval: FASTER or
    SLOWER where the intervals of the two medians lie apart, AMBIGUOUS where they overlap, where
    others took over 5% of the machine, or where the GPU was slowed: by heat, its power limit, or
    what else its driver tells.

    Exit codes: 0 none is slower, 1 some are, 2 usage or nothing to compare, 3 none is slower but
    some are ambiguous.
    """
    from dlsys_bench.report.tables import Table
    from dlsys_bench.timing.ratio import Speed
    from dlsys_bench.timing.stored import compare_benchmarks

    changes, others = compare_benchmarks(a, b)
    speeds = [change.speed for change in changes]
    code = 1 if Speed.SLOWER in speeds else 3 if Speed.AMBIGUOUS in speeds else 0
    if as_json:
        click.echo(
            json.dumps(
                {
                    "a": str(a),
                    "b": str(b),
                    "changes": [one.to_dict() for one in changes],
                    "left_out": others,
                },
                indent=1,
            )
        )
        sys.exit(code)
    rows = [
        (
            one.name,
            f"{1e3 * one.a:.4g}",
            f"{1e3 * one.b:.4g}",
            str(one.ratio),
            str(one.ratio.rounds),
            "-" if one.drift is None else f"{one.drift:.2f}",
            "-" if one.others is None else f"{one.others:.0%}",
            "-" if one.slowed_by is None else ", ".join(one.slowed_by) or "not",
            str(one.speed),
        )
        for one in changes
    ]
    heads = (
        "benchmark",
        ">A, ms",
        ">B, ms",
        ">times faster",
        ">rounds",
        ">machine",
        ">others",
        "GPU slowed by",
        "verdict",
    )
    show(Table(f"{a} (A) and {b} (B)", heads, rows))
    for name in others:
        say(f"left out: {name}: not in both")
    sys.exit(code)


for command in (sweep_command, time_to_accuracy_command):
    bench_group.add_command(command)
