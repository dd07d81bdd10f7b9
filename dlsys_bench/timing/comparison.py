"""Comparison of two files of pytest-benchmark, benchmark by benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.timing.load import BUSY
from dlsys_bench.timing.ratio import Ratio, Speed, unpaired_ratio


@dataclass(frozen=True)
class Change:
    """A benchmark in both files, A and B.

    `a` and `b` are median seconds, `ratio` is the speedup of B, and `drift` the speedup of the
    machine itself, from its matrix peak. `others` is the higher of the two background loads, and
    `slowed_by` lists what slowed the GPU in either file. The last three are None if neither file
    has them.
    """

    name: str
    a: float
    b: float
    ratio: Ratio
    drift: float | None
    others: float | None
    slowed_by: list[str] | None = None

    @property
    def speed(self) -> Speed:
        """The verdict on B; AMBIGUOUS if the background load was high or the GPU was slowed."""
        disturbed = self.others is not None and self.others > BUSY
        return Speed.AMBIGUOUS if disturbed or self.slowed_by else self.ratio.speed

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
        }


def read_benchmarks(path: Path) -> dict[str, dict[str, Any]]:
    """Return the benchmarks in a file of `--benchmark-json` or `--benchmark-save-data`, by name.

    Raises UserError if the file cannot be read, has other contents, or lacks the rounds.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {benchmark["fullname"]: benchmark for benchmark in content["benchmarks"]}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a file of pytest-benchmark: write one by --benchmark-json={path.name}"
        ) from error
    without = [name for name, one in found.items() if not one.get("stats", {}).get("data")]
    if without:
        raise UserError(
            f"{path} has no rounds of {without[0]}, only their summary: write it by "
            "--benchmark-json=FILE, or by --benchmark-save=NAME with --benchmark-save-data"
        )
    return found


def compare_benchmarks(a: Path, b: Path) -> tuple[list[Change], list[str]]:
    """Return the changes of the benchmarks in both files, and the names of those in only one.

    If both files have the matrix peak of their machine, its change widens every interval. Raises
    UserError if the files have no benchmark in common.
    """
    first, second = read_benchmarks(a), read_benchmarks(b)
    shared = [name for name in first if name in second]
    if not shared:
        raise UserError(
            f"{a} and {b} have no benchmark in common: {', '.join(first)}; {', '.join(second)}"
        )
    changes = [_change(name, first[name], second[name]) for name in shared]
    return changes, [name for name in (*first, *second) if name not in shared]


def _change(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Change:
    info = [benchmark.get("extra_info", {}) for benchmark in (a, b)]
    peaks = [one.get("matrix_peak_gflops") for one in info]
    drift = peaks[1] / peaks[0] if all(peaks) else None
    loads = [one["others_share"] for one in info if one.get("others_share") is not None]
    return Change(
        name,
        a["stats"]["median"],
        b["stats"]["median"],
        unpaired_ratio(a["stats"]["data"], b["stats"]["data"], drift or 1.0),
        drift,
        max(loads, default=None),
        _slowed_by([one.get("gpu") for one in info]),
    )


def _slowed_by(gpus: Sequence[Mapping[str, Any] | None]) -> list[str] | None:
    reported = [gpu["slowed_by"] for gpu in gpus if gpu and gpu.get("slowed_by") is not None]
    return sorted({reason for reasons in reported for reason in reasons}) if reported else None
