"""Two files of pytest-benchmark, compared benchmark by benchmark."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.timing.load import BUSY
from dlsys_bench.timing.ratio import Ratio, Speed, apart


@dataclass(frozen=True)
class Change:
    """One benchmark in both files: seconds (medians), how many times B is faster, by how much the
    machine was, how much of it others took, in the worse of the two, and what slowed the GPU in
    either (None: neither tells)."""

    name: str
    a: float
    b: float
    ratio: Ratio
    drift: float | None
    others: float | None
    slowed_by: list[str] | None = None

    @property
    def speed(self) -> Speed:
        """B against A; nothing is said where others took too much of the machine, or the GPU was
        slowed."""
        crowded = self.others is not None and self.others > BUSY
        return Speed.AMBIGUOUS if crowded or self.slowed_by else self.ratio.speed

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "name": self.name,
            "a_seconds": self.a,
            "b_seconds": self.b,
            "speed": self.speed,
            "ratio": self.ratio.middle,
            "low": self.ratio.low,
            "high": self.ratio.high,
            "rounds": self.ratio.rounds,
            "machine": self.drift,
            "others": self.others,
            "gpu_slowed_by": self.slowed_by,
        }


def read_benchmarks(path: Path) -> dict[str, dict[str, Any]]:
    """The benchmarks of a file that `--benchmark-json` or `--benchmark-save-data` wrote, by name.
    Errors: UserError."""
    try:
        found = {
            one["fullname"]: one
            for one in json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        }
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no file of pytest-benchmark: write one by --benchmark-json={path.name}"
        ) from error
    if bare := [name for name, one in found.items() if not one.get("stats", {}).get("data")]:
        raise UserError(
            f"{path} has no rounds of {bare[0]}, only their summary: write it by --benchmark-json=FILE, or by "
            "--benchmark-save=NAME with --benchmark-save-data"
        )
    return found


def compare_benchmarks(a: Path, b: Path) -> tuple[list[Change], list[str]]:
    """The changes of what both files have, and the names that one lacks. Errors: UserError where
    they share none.

    Where both tell the matrix peak that they measured, the machine's own change widens every
    interval; where one tells that others were at work meanwhile, or that its GPU was slowed, its
    benchmark is ambiguous.
    """
    first, second = read_benchmarks(a), read_benchmarks(b)
    shared = [name for name in first if name in second]
    if not shared:
        raise UserError(
            f"{a} and {b} have no benchmark in common: {', '.join(first)}; {', '.join(second)}"
        )
    changes = []
    for name in shared:
        one, other = first[name], second[name]
        peaks, shares, gpus = (
            [found.get("extra_info", {}).get(field) for found in (one, other)]
            for field in ("matrix_peak_gflops", "others_share", "gpu")
        )
        drift = peaks[1] / peaks[0] if all(peaks) else None
        ratio = apart(one["stats"]["data"], other["stats"]["data"], drift or 1.0)
        medians = one["stats"]["median"], other["stats"]["median"]
        changes.append(Change(name, *medians, ratio, drift, _most(shares), _slowed_by(gpus)))
    return changes, [name for name in (*first, *second) if name not in shared]


def _most(shares: list[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)


def _slowed_by(gpus: list[dict[str, Any] | None]) -> list[str] | None:
    told = [reasons for gpu in gpus if gpu and (reasons := gpu.get("slowed_by")) is not None]
    return sorted({reason for reasons in told for reason in reasons}) if told else None
