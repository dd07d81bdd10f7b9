"""Simulate the verdicts of `dlsys-bench bench compare` and those of pytest-benchmark.

    python benchmarks/experiments/bench_compare.py 2000    # writes reports/speed/compare.json, .md

Each cell has sessions of the same or of changed code, which differ by a normally distributed factor
besides the noise of their rounds. `--benchmark-compare-fail=median:10%` compares one session with
one. Cells that are stored are not simulated again.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.timing.comparison import MARGIN, SESSION_SPREAD
from dlsys_bench.timing.ratio import Speed
from dlsys_bench.timing.sessions import session_ratio

STORED = Path(__file__).parents[2] / "reports" / "speed" / "compare.json"
ROUNDS, NOISE = 7, 0.03
"""The rounds of a session, and their relative standard deviation."""

SPREADS = (0.005, 0.02, 0.12, 0.18)
"""The standard deviations between sessions; 0.005, 0.12 and 0.18 were found in real benchmarks."""

SESSIONS = (1, 3, 5)
SLOWDOWNS = (1.0, 1.05, 1.1, 1.2, 1.5, 10.0)
"""The durations of B, relative to those of A."""


def side(
    generator: np.random.Generator, count: int, spread: float, slowdown: float
) -> list[list[float]]:
    """Return the seconds of the rounds of a number of sessions."""
    session = generator.normal(0, spread, (count, 1))
    found: list[list[float]] = (
        slowdown * np.exp(session + generator.normal(0, NOISE, (count, ROUNDS)))
    ).tolist()
    return found


def simulate(count: int, spread: float, slowdown: float, trials: int) -> dict[str, Any]:
    """Return the frequencies of the verdicts of one cell, and the coverage of the interval."""
    generator = np.random.default_rng([count, round(1000 * spread), round(100 * slowdown)])
    verdicts: Counter[Speed] = Counter()
    covered = failed = 0
    for _ in range(trials):
        a, b = side(generator, count, spread, 1.0), side(generator, count, spread, slowdown)
        ratio = session_ratio(a, b, SESSION_SPREAD)
        verdicts[ratio.within(MARGIN)] += 1
        covered += ratio.low <= 1 / slowdown <= ratio.high
        failed += bool(np.median(b[0]) > (1 + MARGIN) * np.median(a[0]))
    return {
        "sessions": count,
        "spread": spread,
        "slowdown": slowdown,
        "trials": trials,
        **{str(speed): verdicts[speed] / trials for speed in Speed},
        "coverage": covered / trials,
        "pytest-benchmark": failed / trials,
    }


def table(cells: list[dict[str, Any]]) -> Table:
    """Return the table of the cells."""
    heads = (
        *(">sessions", ">spread between sessions", ">duration of B / A"),
        *(f">{speed}" for speed in Speed),
        *(">coverage", ">pytest-benchmark fails"),
    )
    rows = [
        (
            f"{cell['sessions']} and {cell['sessions']}",
            f"{cell['spread']:.1%}",
            f"{cell['slowdown']:g}",
            *(f"{cell[str(speed)]:.1%}" for speed in Speed),
            f"{cell['coverage']:.1%}",
            f"{cell['pytest-benchmark']:.1%}",
        )
        for cell in cells
    ]
    trials = min(cell["trials"] for cell in cells)
    title = (
        f"Verdicts of `bench compare` (margin {MARGIN:.0%}, assumed spread {SESSION_SPREAD:.0%}) "
        f"and of `--benchmark-compare-fail=median:{MARGIN:.0%}`, {trials:,} simulations per cell, "
        f"{ROUNDS} rounds with a standard deviation of {NOISE:.0%}"
    )
    return Table(title, heads, rows)


def main(trials: int) -> None:
    """Simulate the cells that are not stored with as many trials, and write the tables."""
    stored = json.loads(STORED.read_text())["cells"] if STORED.exists() else []
    known = {
        (cell["sessions"], cell["spread"], cell["slowdown"]): cell
        for cell in stored
        if cell["trials"] >= trials
    }
    cells: list[dict[str, Any]] = []
    for key in product(SESSIONS, SPREADS, SLOWDOWNS):
        cells.append(known.get(key) or simulate(*key, trials))
        STORED.write_text(json.dumps({"cells": cells, "provenance": provenance()}, indent=1))
    STORED.with_suffix(".md").write_text(f"# Comparison of sessions\n\n{table(cells).markdown()}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
