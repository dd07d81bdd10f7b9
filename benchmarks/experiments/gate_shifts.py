"""Compare the default shifts of gates by the standard deviation with and without outliers.

    python benchmarks/experiments/gate_shifts.py    # writes reports/gates/shifts.{md,json}

Each arm of each file in reports/reference with enough runs has a row. "held out" is the gate of the
first half of the reference runs on the others: what a healthy engine gets, by either shift.
"""

from __future__ import annotations

import json
from collections import defaultdict
from math import isfinite
from pathlib import Path
from typing import Any

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.store import read
from dlsys_bench.studies.base import Metric
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.bands import FEWEST_RUNS
from dlsys_bench.verdicts.candidate import value_of
from dlsys_bench.verdicts.sequential import SequentialGate
from dlsys_bench.verdicts.terms import DEFAULT

ROOT = Path(__file__).parents[2] / "reports"
COLUMNS = ("arm", "dataset", "tier", ">runs", ">std", ">without outliers", ">ratio", "held out")


def figures() -> dict[tuple[str, Key], tuple[Metric, list[float]]]:
    """Return the judged figures of each arm, by file."""
    found: dict[tuple[str, Key], tuple[Metric, list[float]]] = {}
    for path in sorted((ROOT / "reference").glob("*.jsonl")):
        arms = defaultdict(list)
        for run in read(path):
            key = run.key
            arms[Key(key.study, key.arm, key.dataset, key.tier, protocol=key.protocol)].append(run)
        for key, runs in arms.items():
            metric = studies()[key.study].metric
            side = DEFAULT.for_metric(metric).side
            found[path.name, key] = metric, [value_of(run, metric, side) for run in runs]
    return found


def outcome(values: list[float], side: str, scale: float | None = None) -> str:
    """Return the verdict on the second half of the runs, by the first half as reference."""
    half = len(values) // 2
    options: dict[str, Any] = {"side": side, "max_seeds": len(values) - half, "alpha": 0.01}
    gate = SequentialGate(values[:half], **options)
    if scale is not None and gate.obstacle is None:
        gate = SequentialGate(values[:half], gate.design.smallest_shift * scale, **options)
    new = values[half:]
    for look in gate.design.looks:
        decision = gate.decide(new[:look])
        if decision is not None:
            return decision.outcome.value
    raise AssertionError("the last look decides")


def main() -> None:
    """Write the table."""
    rows = []
    for (_, key), (metric, values) in figures().items():
        finished = [value for value in values if isfinite(value)]
        if len(finished) < FEWEST_RUNS:
            continue
        gate = SequentialGate(values)
        assert gate.band is not None
        side = DEFAULT.for_metric(metric).side
        first = SequentialGate(values[: len(values) // 2])
        before = outcome(values, side, first.band.std) if first.band and first.band.std else "-"
        after = outcome(values, side) if first.band and first.scale else "-"
        rows.append(
            {
                "arm": key.name,
                "dataset": key.dataset,
                "tier": key.tier,
                "runs": len(values),
                "std": gate.band.std,
                "without outliers": gate.scale,
                "ratio": gate.scale / gate.band.std if gate.band.std else 1.0,
                "held out": after if after == before else f"{before} -> {after}",
            }
        )
    text = {"provenance": provenance(), "arms": rows}
    (ROOT / "gates" / "shifts.json").write_text(json.dumps(text, indent=1) + "\n", "utf-8")
    changed = [row for row in rows if row["ratio"] != 1.0 or "->" in str(row["held out"])]
    title = (
        f"Default shift without outliers: {len(changed)} of {len(rows)} gates differ; the held-out "
        f"verdict differs for {sum('->' in str(row['held out']) for row in rows)}"
    )
    cells = [
        tuple(f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()) for r in rows
    ]
    (ROOT / "gates" / "shifts.md").write_text(Table(title, COLUMNS, cells).markdown(), "utf-8")


if __name__ == "__main__":
    main()
