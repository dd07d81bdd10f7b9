"""Compare stored benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import show
from dlsys_bench.report.html.comparisons import benchmark_sections
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps
from dlsys_bench.timing.comparison import Change, Rules, compare_benchmarks
from dlsys_bench.timing.ratio import Speed

HEADS = (
    "benchmark",
    ">A, ms",
    ">B, ms",
    ">speedup of B",
    ">sessions",
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
    margin: float
    session_spread: float
    across_machines: bool
    json: bool
    html: Path | None


@receives(CompareBenchmarksOptions)
def compare_command(options: CompareBenchmarksOptions) -> None:
    """Print the speedups, and exit with 1 if any is slower, 3 if any is ambiguous."""
    check_page(options.html)
    rules = Rules(options.margin, options.session_spread, options.across_machines)
    changes, left_out = compare_benchmarks(options.a, options.b, rules=rules)
    if options.json:
        report = {
            "a": str(options.a),
            "b": str(options.b),
            "margin": options.margin,
            "session_spread": options.session_spread,
            "changes": [one.to_dict() for one in changes],
            "left_out": left_out,
        }
        emit(dumps(report, indent=1))
    else:
        show(
            Table(
                f"{options.a} (A) and {options.b} (B), margin {options.margin:.0%}",
                HEADS,
                _rows(changes),
            )
        )
        for line in (*_mismatches(changes), *_assumption(changes, rules), *_left_out(left_out)):
            say(line)
    speeds = [change.speed for change in changes]
    if options.html is not None:
        table = Table("Benchmarks", HEADS, _rows(changes))
        remarks = (*_mismatches(changes), *_assumption(changes, rules), *_left_out(left_out))
        sections = benchmark_sections(changes, table, options.margin, remarks)
        worst = next(speed for speed in (Speed.SLOWER, Speed.AMBIGUOUS, *Speed) if speed in speeds)
        summary = (f"A is {options.a}, B is {options.b}.",)
        write(options.html, "Comparison of benchmarks", worst, summary, sections)
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


def _assumption(changes: Sequence[Change], rules: Rules) -> list[str]:
    """Return the assumption about sessions if there is one on each side."""
    if any(change.sessions != (1, 1) for change in changes):
        return []
    return [
        f"assumed: sessions of the same code differ by {rules.session_spread:.1%} (standard "
        "deviation); folders of repeated sessions as A and B measure it"
    ]


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"left out: {name}: not in all files" for name in names]


def _rows(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    return [
        (
            one.name,
            f"{1e3 * one.a:.4g}",
            f"{1e3 * one.b:.4g}",
            str(one.ratio),
            "{} and {}".format(*one.sessions),
            str(one.ratio.rounds),
            "-" if one.drift is None else f"{one.drift:.2f}",
            "-" if one.others is None else f"{one.others:.0%}",
            "-" if one.slowed_by is None else ", ".join(one.slowed_by) or "not slowed",
            str(one.speed),
        )
        for one in changes
    ]
