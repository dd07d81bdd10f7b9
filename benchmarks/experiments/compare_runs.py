"""Simulate `dlsys-bench compare`: the coverage of its intervals, false verdicts, and power.

    python benchmarks/experiments/compare_runs.py    # writes reports/gates/compare.{json,md}

Every cell is stored as it ends, and a second start continues where the first one ended. The figures
of A and of B have the named distribution. Those of equal seeds are equal with the probability
`correlation`, which keeps the distribution. Drops are in standard deviations, and the margin is one
standard deviation.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from session_verdicts import DISTRIBUTIONS

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.all_arms import ArmSides, compare_arms
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.difference import difference

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
SEED = 20261129
INTERVALS, TABLES, SESSIONS, PERMUTATIONS, ARMS = 2000, 100, 400, 999, 10
SIZES = ((5, 5), (10, 10), (20, 20), (5, 20), (50, 50))
CORRELATIONS = (0.0, 0.5, 0.9)
CHANGES: dict[str, tuple[float, float]] = {
    "none": (0.0, 1.0),
    "drop of 1": (1.0, 1.0),
    "drop of 2": (2.0, 1.0),
    "fourfold spread": (0.0, 4.0),
}
"""The changes from A to B: a drop, and the factor of the spread about the median."""

Values = NDArray[np.float64]
Cell = dict[str, Any]


def draw(
    generator: np.random.Generator, name: str, size: tuple[int, int], correlation: float
) -> tuple[Values, Values]:
    """Return figures of A and of B in units of the standard deviation."""
    distribution, std = DISTRIBUTIONS[name]
    x, y = (distribution(generator, (count,)) / std for count in size)
    shared = min(size)
    equal = generator.random(shared) < correlation
    y[:shared] = np.where(equal, x[:shared], y[:shared])
    return x, y


def runs(values: Values, engine: str) -> list[Result]:
    """Return a run for each figure, with the seeds 0, 1, 2, ..."""
    return [
        Result(
            Key("simulated", "arm", "data", "quick", engine, "cpu", "float32", seed, "p"),
            "keras",
            {},
            [],
            1.0,
            figures={"figure": value},
        )
        for seed, value in enumerate(values.tolist())
    ]


def coverage(generator: np.random.Generator, name: str, size: tuple[int, int], r: float) -> Cell:
    """Return the fraction of 95% intervals that contain the difference, and their mean width."""
    found = []
    for _ in range(INTERVALS):
        a, b = map(runs, draw(generator, name, size, r), ("a", "b"))
        found.append(difference(a, b, "figure"))
    return {
        "coverage": float(np.mean([one.low <= 0 <= one.high for one in found])),
        "width": float(np.mean([one.high - one.low for one in found])),
        "paired": float(np.mean([one.pairs > 0 for one in found])),
    }


def verdicts(generator: np.random.Generator, name: str, size: tuple[int, int], change: str) -> Cell:
    """Return the fractions of single comparisons that are SAME, DIFFERS and UNDECIDED."""
    drop, factor = CHANGES[change]
    distribution, std = DISTRIBUTIONS[name]
    median = float(np.median(distribution(np.random.default_rng(1), (100_000,)) / std))
    counts: Counter[str] = Counter()
    for _ in range(TABLES):
        x, y = draw(generator, name, size, 0.0)
        y = median + factor * (y - median) - drop
        (one,) = compare(runs(x, "a"), runs(y, "b"), margin=1.0)
        counts[one.relation.value] += 1
    return {name: counts[name] / TABLES for name in ("SAME", "DIFFERS", "UNDECIDED")}


def all_arms(generator: np.random.Generator, name: str, size: tuple[int, int], drop: float) -> Cell:
    """Return the fraction of comparisons over ARMS arms that differ, at 0.0125, and that of
    sessions in which any of the rows has a p-value of the rank sum below its share of 0.0375.

    Within each side, the arms have a correlation of a half at equal seeds.
    """
    differs = 0
    for _ in range(SESSIONS):
        common = draw(generator, name, size, 0.0)
        arms = []
        for _ in range(ARMS):
            own = draw(generator, name, size, 0.0)
            x, y = (
                np.where(generator.random(len(each)) < 0.5, each, mine)
                for each, mine in zip(common, own, strict=True)
            )
            arms.append(ArmSides(dict(enumerate(x)), dict(enumerate(y - drop, 1000))))
        found = compare_arms(arms, ("a", "b"), 0.0125, paired=False, permutations=PERMUTATIONS)
        differs += found.differs
    return {"differs": differs / SESSIONS}


TABLE_CELLS: dict[str, tuple[Callable[..., Cell], tuple[object, ...], str]] = {
    "intervals": (coverage, CORRELATIONS, "correlation"),
    "all arms": (all_arms, (0.0, 0.5, 1.0), "drop (std)"),
    "verdicts": (verdicts, tuple(CHANGES), "change"),
}
TITLES = {
    "intervals": f"Coverage of 95% intervals of a difference ({INTERVALS:,} per row)",
    "verdicts": f"Verdicts on one figure, at a margin of one standard deviation ({TABLES} per row)",
    "all arms": f"Comparisons over {ARMS} arms that differ, at alpha 0.0125 ({SESSIONS} per row)",
}


def main() -> None:
    """Simulate the cells that are not stored, and write the tables."""
    path = REPORTS / "compare.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": {}}
    cells: dict[str, Cell] = stored["cells"]
    for kind, (simulate, values, _) in TABLE_CELLS.items():
        for number, (name, size, value) in enumerate(product(DISTRIBUTIONS, SIZES, values)):
            label = f"{kind}: {name}, {size[0]} and {size[1]}, {value}"
            if label in cells:
                continue
            generator = np.random.default_rng([SEED, list(TABLE_CELLS).index(kind), number])
            cells[label] = simulate(generator, name, size, value)
            text = {"provenance": provenance(), "cells": cells}
            path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    tables = []
    for kind, (_, values, column) in TABLE_CELLS.items():
        rows, names = [], []
        for name, size, value in product(DISTRIBUTIONS, SIZES, values):
            cell = cells[f"{kind}: {name}, {size[0]} and {size[1]}, {value}"]
            names = list(cell)
            rows.append(
                (name, str(size[0]), str(size[1]), str(value), *map(_digits, cell.values()))
            )
        heads = ("distribution", ">runs of A", ">runs of B", column, *(f">{one}" for one in names))
        tables.append(Table(TITLES[kind], heads, rows).markdown())
    (REPORTS / "compare.md").write_text("\n".join(tables), encoding="utf-8")


def _digits(value: float) -> str:
    return f"{value:.3f}"


if __name__ == "__main__":
    main()
