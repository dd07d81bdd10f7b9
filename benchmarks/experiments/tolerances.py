"""Measure how close healthy engines come to the tolerances of the ladder.

    python benchmarks/experiments/tolerances.py measure numpy torch --seeds 2-5
    python benchmarks/experiments/tolerances.py report    # writes tolerances.md

Every check runs in this process, and the largest ratio of a difference to its tolerance is stored
with its seed in reports/conformance/tolerances.jsonl. A ratio near one is a false alarm to come.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dlsys_bench.conformance import blocks, checks, expectation, finding
from dlsys_bench.conformance.ladder import select
from dlsys_bench.conformance.runner import LocalRunner, engine_factory
from dlsys_bench.conformance.trial import Options
from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table

REPORTS = Path(__file__).parents[2] / "reports" / "conformance"
RATIOS = REPORTS / "tolerances.jsonl"
TABLE = REPORTS / "tolerances.md"
SMALL = 0.05
"""A ratio up to which the tolerance need not be known exactly."""


class Largest:
    """The largest ratio of a difference to its tolerance in the comparisons of one check."""

    def __init__(self) -> None:
        self.ratio, self.what = 0.0, ""

    def add(self, actual: Any, expected: Any, limit: Callable[[float], float], what: str) -> None:
        """Add a comparison of two arrays. `limit` returns the tolerance, given the difference."""
        first, second = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        if first.shape != second.shape:
            return
        with np.errstate(invalid="ignore"):
            apart = np.abs(first - second)
        difference = float(apart[np.isfinite(apart)].max(initial=0.0))
        allowed = limit(difference)
        if 0 < allowed < math.inf and difference > self.ratio * allowed:
            self.ratio, self.what = difference / allowed, what

    def watch(self) -> None:
        """Add every comparison that a check makes in this process from now on."""
        check, largest = expectation.Expectation.check, self

        def watched(compare: Callable[..., None]) -> Callable[..., None]:
            def compared(
                what: str, actual: Any, expected: Any, allowed: float, *rest: Any, **where: Any
            ) -> None:
                self.add(actual, expected, lambda _: allowed, what)
                compare(what, actual, expected, allowed, *rest, **where)

            return compared

        def checked(
            self: expectation.Expectation, name: str, actual: Any, what: str, **where: Any
        ) -> None:
            def limit(difference: float) -> float:
                # The rest of the tolerance takes three evaluations of the oracle.
                least = self.least(name)
                return least if difference < SMALL * least else self.allowed(name)

            largest.add(actual, self.values[name], limit, what)
            check(self, name, actual, what, **where)

        for found in pkgutil.walk_packages(checks.__path__, f"{checks.__name__}."):
            importlib.import_module(found.name)
        for name, module in list(sys.modules.items()):
            if name.startswith(checks.__name__):
                for compare in (finding.close, blocks.close_in_blocks):
                    if getattr(module, compare.__name__, None) is compare:
                        setattr(module, compare.__name__, watched(compare))
        expectation.Expectation.check = checked  # type: ignore[method-assign]


def measure(engine: str, seeds: range, pattern: str) -> None:
    """Run the checks with each seed, and store the largest ratio of each."""
    largest = Largest()
    largest.watch()
    commit = provenance().get("commit")
    for seed in seeds:
        runner = LocalRunner(engine_factory(engine, "cpu"), Options(seed=seed))
        for each in select([pattern] if pattern else None, runner.dtypes()):
            largest.ratio, largest.what = 0.0, ""
            result = runner.run(each.name)
            row = {
                "engine": engine,
                "check": each.name,
                "seed": seed,
                "status": result.status.value,
                "ratio": round(largest.ratio, 4),
                "what": largest.what,
                "drawn": result.drawn,
                "commit": commit,
            }
            with RATIOS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def table() -> Table:
    """Return one row per engine and dtype."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in RATIOS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        dtype = row["check"].partition("@")[2] or "default"
        groups.setdefault((row["engine"], dtype), []).append(row)
    rows = []
    for key, found in sorted(groups.items()):
        passed = [row for row in found if row["status"] == "passed"]
        ratios = np.array([row["ratio"] for row in passed])
        largest = max(passed, key=lambda row: row["ratio"])
        rows.append(
            (
                *key,
                ", ".join(sorted({str(row["seed"]) for row in found}, key=int)),
                f"{len(passed):,}",
                str(sum(row["status"] == "failed" for row in found)),
                *(f"{value:.2f}" for value in np.quantile(ratios, (0.5, 0.99))),
                f"{largest['ratio']:.2f}",
                f"{largest['check']}, seed {largest['seed']}",
            )
        )
    heads = ("engine", "dtype", "seeds", ">checks passed", ">failed", ">median", ">99%", ">largest")
    return Table("Differences of healthy engines / tolerance", (*heads, "largest in"), rows)


def main() -> None:
    """Measure, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("measure", "report"))
    parser.add_argument("engines", nargs="*", default=["numpy", "torch"])
    parser.add_argument("--seeds", default="2-5", help="first and last seed")
    parser.add_argument("--check", default="", help="a check or a rung (default: all)")
    options = parser.parse_args()
    if options.action == "measure":
        first, last = map(int, options.seeds.split("-"))
        for engine in options.engines:
            measure(engine, range(first, last + 1), options.check)
    TABLE.write_text(table().markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
