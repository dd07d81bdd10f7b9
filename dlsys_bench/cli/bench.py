"""Compare stored benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import show
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps
from dlsys_bench.timing.comparison import Change, compare_benchmarks
from dlsys_bench.timing.ratio import Speed

HEADS = (
    "benchmark",
    ">A, ms",
    ">B, ms",
    ">speedup of B",
    ">rounds",
    ">machine",
    ">background load",
    "GPU slowed by",
    "verdict",
)


@dataclass(frozen=True)
class CompareBenchmarksOptions:
    """The arguments and the options of `bench compare`."""

    a: Path
    b: Path
    across_machines: bool
    json: bool


@receives(CompareBenchmarksOptions)
def compare_command(options: CompareBenchmarksOptions) -> None:
    """Print the speedups, and exit with 1 if any is slower, 3 if any is ambiguous."""
    changes, left_out = compare_benchmarks(
        options.a, options.b, across_machines=options.across_machines
    )
    if options.json:
        report = {
            "a": str(options.a),
            "b": str(options.b),
            "changes": [one.to_dict() for one in changes],
            "left_out": left_out,
        }
        emit(dumps(report, indent=1))
    else:
        show(Table(f"{options.a} (A) and {options.b} (B)", HEADS, _rows(changes)))
        for line in (*_mismatches(changes), *_left_out(left_out)):
            say(line)
    speeds = [change.speed for change in changes]
    sys.exit(1 if Speed.SLOWER in speeds else 3 if Speed.AMBIGUOUS in speeds else 0)


def _mismatches(changes: Sequence[Change]) -> list[str]:
    """Return a line for each mismatch of the sessions, and one that states its consequence."""
    found: dict[str, list[str]] = {}
    for change in changes:
        for mismatch in change.mismatches:
            found.setdefault(str(mismatch), []).append(change.name)
    lines = [
        f"different: {text}" + ("" if len(names) == len(changes) else f" ({', '.join(names)})")
        for text, names in found.items()
    ]
    if not lines or changes[0].across_machines:
        return lines
    return [*lines, "a comparison of different sessions is AMBIGUOUS without --across-machines"]


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"left out: {name}: not in both files" for name in names]


def _rows(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    return [
        (
            one.name,
            f"{1e3 * one.a:.4g}",
            f"{1e3 * one.b:.4g}",
            str(one.ratio),
            str(one.ratio.rounds),
            "-" if one.drift is None else f"{one.drift:.2f}",
            "-" if one.others is None else f"{one.others:.0%}",
            "-" if one.slowed_by is None else ", ".join(one.slowed_by) or "not slowed",
            str(one.speed),
        )
        for one in changes
    ]
