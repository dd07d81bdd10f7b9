"""Comparison of sessions of pytest-benchmark before and after a change, benchmark by benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.timing.benchmark_file import Benchmark, BenchmarkFile, read_sessions
from dlsys_bench.timing.load import BUSY
from dlsys_bench.timing.mismatches import Mismatch, mismatches
from dlsys_bench.timing.ratio import Ratio, Speed
from dlsys_bench.timing.sessions import session_ratio

MARGIN = 0.1
"""The default of the equivalence margin: a smaller relative change is none."""

SESSION_SPREAD = 0.02
"""The default of the standard deviation between sessions that is assumed for single ones."""


@dataclass(frozen=True)
class Change:
    """A benchmark in the sessions A and B.

    `a` and `b` are median seconds, `sessions` their numbers, `ratio` is the speedup of B, and
    `margin` the relative change up to which speeds are the same. `drift` is the speedup of the
    machine itself, from its matrix peak, `others` the highest background load, and `slowed_by`
    lists what slowed the GPU in any session. The last three are None if they were not recorded.
    `mismatches` are those of the machines, versions and settings; `across_machines` states that the
    user accepts them.
    """

    name: str
    a: float
    b: float
    sessions: tuple[int, int]
    ratio: Ratio
    margin: float
    drift: float | None
    others: float | None
    slowed_by: list[str] | None = None
    mismatches: Sequence[Mismatch] = ()
    across_machines: bool = False

    @property
    def speed(self) -> Speed:
        """The verdict on B; AMBIGUOUS if the background load was high, the GPU was slowed, or the
        sessions differ in what they ran on."""
        loaded = self.others is not None and self.others > BUSY
        different = self.mismatches and not self.across_machines
        if loaded or self.slowed_by or different:
            return Speed.AMBIGUOUS
        return self.ratio.within(self.margin)

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON values."""
        return {
            "name": self.name,
            "a_seconds": self.a,
            "b_seconds": self.b,
            "a_sessions": self.sessions[0],
            "b_sessions": self.sessions[1],
            "speed": self.speed,
            "ratio": self.ratio.median,
            "low": self.ratio.low,
            "high": self.ratio.high,
            "rounds": self.ratio.rounds,
            "machine": self.drift,
            "others": self.others,
            "gpu_slowed_by": self.slowed_by,
            "mismatches": [one.to_dict() for one in self.mismatches],
        }


@dataclass(frozen=True)
class Rules:
    """The rules of a comparison: the equivalence margin, the standard deviation between sessions
    that is assumed for single ones, and whether differing machines are accepted."""

    margin: float = MARGIN
    session_spread: float = SESSION_SPREAD
    across_machines: bool = False


def compare_benchmarks(
    a: Path, b: Path, *, rules: Rules | None = None
) -> tuple[list[Change], list[str]]:
    """Return the changes of the benchmarks in all sessions, and the names of the others.

    A and B are each a file, or a folder with a file for each session. If all have the matrix peak
    of their machine, its change widens every interval, unless the sessions are compared across
    machines. Raises UserError if a file is invalid, or if the files have no benchmark in common.
    """
    first, second = read_sessions(a), read_sessions(b)
    names = dict.fromkeys(name for file in (*first, *second) for name in file.benchmarks)
    shared = [name for name in names if all(name in file.benchmarks for file in (*first, *second))]
    if not shared:
        found = [_first_of(list(side[0].benchmarks)) for side in (first, second)]
        raise UserError(f"{a} and {b} have no benchmark in common: {found[0]}; {found[1]}")
    changes = [_change(first, second, name, rules or Rules()) for name in shared]
    return changes, [name for name in names if name not in shared]


def _first_of(names: Sequence[str], count: int = 3) -> str:
    """Return the first names, and the number of those that are left out."""
    more = count_of(len(names) - count, "more", "more")
    return ", ".join(names[:count]) + (f" and {more}" if len(names) > count else "")


def _change(
    first: Sequence[BenchmarkFile], second: Sequence[BenchmarkFile], name: str, rules: Rules
) -> Change:
    a, b = ([file.benchmarks[name] for file in side] for side in (first, second))
    drift = _drift(a, b)
    loads = [one.load for one in (*a, *b) if one.load is not None]
    reasons = [one.slowed_by for one in (*a, *b) if one.slowed_by is not None]
    old, new = ([one.seconds for one in side] for side in (a, b))
    widening = 1.0 if rules.across_machines or drift is None else drift
    return Change(
        name,
        median(map(median, old)),
        median(map(median, new)),
        (len(a), len(b)),
        session_ratio(old, new, rules.session_spread, widening),
        rules.margin,
        drift,
        max(loads, default=None),
        sorted({reason for each in reasons for reason in each}) if reasons else None,
        mismatches(first, second, name),
        rules.across_machines,
    )


def _drift(a: Sequence[Benchmark], b: Sequence[Benchmark]) -> float | None:
    """Return the speedup of the machine, None if a session does not have its matrix peak."""
    peaks = [[one.peak for one in side if one.peak is not None] for side in (a, b)]
    if len(peaks[0]) < len(a) or len(peaks[1]) < len(b):
        return None
    return median(peaks[1]) / median(peaks[0])
