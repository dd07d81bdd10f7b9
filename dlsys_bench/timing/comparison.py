"""Comparison of two files of pytest-benchmark, benchmark by benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dlsys_bench.errors import UserError, count_of
from dlsys_bench.timing.benchmark_file import Benchmark, read_benchmarks
from dlsys_bench.timing.load import BUSY
from dlsys_bench.timing.mismatches import Mismatch, mismatches
from dlsys_bench.timing.ratio import Ratio, Speed, unpaired_ratio


@dataclass(frozen=True)
class Change:
    """A benchmark in both files, A and B.

    `a` and `b` are median seconds, `ratio` is the speedup of B, and `drift` the speedup of the
    machine itself, from its matrix peak. `others` is the higher of the two background loads, and
    `slowed_by` lists what slowed the GPU in either file. The last three are None if neither file
    has them. `mismatches` are those of the machines, versions and settings; `across_machines`
    states that the user accepts them.
    """

    name: str
    a: float
    b: float
    ratio: Ratio
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
        return Speed.AMBIGUOUS if loaded or self.slowed_by or different else self.ratio.speed

    def to_dict(self) -> dict[str, Any]:
        """Return the change as JSON values."""
        return {
            "name": self.name,
            "a_seconds": self.a,
            "b_seconds": self.b,
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


def compare_benchmarks(
    a: Path, b: Path, *, across_machines: bool = False
) -> tuple[list[Change], list[str]]:
    """Return the changes of the benchmarks in both files, and the names of those in only one.

    If both files have the matrix peak of their machine, its change widens every interval, unless
    the files are compared `across_machines`. Raises UserError if a file is invalid, or if the files
    have no benchmark in common.
    """
    first, second = read_benchmarks(a), read_benchmarks(b)
    shared = [name for name in first.benchmarks if name in second.benchmarks]
    if not shared:
        names = [_first_of(list(file.benchmarks)) for file in (first, second)]
        raise UserError(f"{a} and {b} have no benchmark in common: {names[0]}; {names[1]}")
    changes = []
    for name in shared:
        sides = first.benchmarks[name], second.benchmarks[name]
        found = mismatches(first, second, *sides)
        changes.append(_change(*sides, found, across_machines=across_machines))
    return changes, [name for name in (*first.benchmarks, *second.benchmarks) if name not in shared]


def _first_of(names: Sequence[str], count: int = 3) -> str:
    """Return the first names, and the number of those that are left out."""
    more = count_of(len(names) - count, "more", "more")
    return ", ".join(names[:count]) + (f" and {more}" if len(names) > count else "")


def _change(a: Benchmark, b: Benchmark, found: list[Mismatch], *, across_machines: bool) -> Change:
    drift = b.peak / a.peak if a.peak and b.peak else None
    reasons = [one.slowed_by for one in (a, b) if one.slowed_by is not None]
    return Change(
        a.name,
        median(a.seconds),
        median(b.seconds),
        unpaired_ratio(a.seconds, b.seconds, 1.0 if across_machines else drift or 1.0),
        drift,
        max((one.load for one in (a, b) if one.load is not None), default=None),
        sorted({reason for each in reasons for reason in each}) if reasons else None,
        found,
        across_machines,
    )
