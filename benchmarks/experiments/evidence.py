"""Simulate the evidence of many sessions: commits until an alarm, and false alarms.

    python benchmarks/experiments/evidence.py    # writes reports/gates/evidence.{md,json}

Each file has 5, 10, 20 or 50 reference runs and two new runs per commit. The figures have the named
distribution; after a number of healthy commits, those of new runs change. Every cell is stored as
it ends, and a second start continues where the first one ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special
from session_verdicts import DISTRIBUTIONS

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.verdicts.betting import EITHER, Alternative, log_bets, starts
from dlsys_bench.verdicts.evidence import ALARM

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
SEED = 20261129
COMMITS, PER_COMMIT = 500, 2
FALSE_ALARMS, CHANGED = 400, 200
STORED, HEALTHY = (5, 10, 20, 50), (0, 50)

Values = NDArray[np.float64]
Array = NDArray[np.float32]
Change = Callable[[np.random.Generator, Values], Values]

CHANGES: dict[str, Change] = {
    "drop of 0.5": lambda _, x: x - 0.5,
    "drop of 1": lambda _, x: x - 1.0,
    "rise of 1": lambda _, x: x + 1.0,
    "one in 4 collapses": lambda generator, x: np.where(generator.random(x.shape) < 0.25, -50, x),
    "one in 12 collapses": lambda generator, x: np.where(
        generator.random(x.shape) < 1 / 12, -50, x
    ),
    "doubled spread": lambda _, x: 2 * (x - np.median(x)) + np.median(x),
    "fourfold spread": lambda _, x: 4 * (x - np.median(x)) + np.median(x),
}
"""The changes of new runs, in standard deviations."""


ENDS = (">found in 150", ">median commits", ">quartiles")
GRID = np.linspace(-30.0, 30.0, 12_001)
NORMAL = special.ndtr(GRID)
BELOW = {one.name: one.cumulative(GRID) for one in EITHER}


def bets_of(one: Alternative, reference: int, changed: int, edges: Values) -> Values:
    """Return the logarithm of the bet on each rank.

    It agrees with `log_bets` to three digits, and is far faster for all ranks at a time.
    """
    if one.collapsed:
        numbers = np.array(float(reference)), np.array(float(changed))
        return log_bets(one, *numbers, edges[:-1], edges[1:])
    share = (changed + 1) / (reference + changed + 1)
    below = BELOW[one.name]
    inside = np.interp(edges, share * below + (1 - share) * NORMAL, below)
    inside[0], inside[-1] = 0.0, 1.0
    bets = np.log(np.maximum(np.diff(inside), 1e-300) * (reference + changed + 1))
    return np.asarray(bets, np.float64)


@lru_cache(maxsize=1)
def tables(stored: int, runs: int) -> list[Array]:
    """Return for each run the logarithms of the bets on each of its ranks, with the shape (starts,
    alternatives, ranks)."""
    begin = np.array([start for start, _ in takewhile(lambda each: each[0] < runs, starts())])
    found = []
    for before in range(runs):
        edges = np.arange(stored + before + 2) / (stored + before + 1)
        bets = [
            [bets_of(one, stored + start, before - start, edges) for one in EITHER]
            for start in begin[begin <= before].tolist()
        ]
        found.append(np.array(bets, np.float32))
    return found


def runs_until_alarm(values: Values, stored: int, generator: np.random.Generator) -> Values:
    """Return the number of new runs until the alarm for each file (row), infinite for none.

    It is the computation of `betting.capital`, for many files at a time.
    """
    files, columns = values.shape
    runs = columns - stored
    known = list(takewhile(lambda each: each[0] < runs, starts()))
    weights = np.array([one.weight for one in EITHER])
    prior = np.log(np.outer([weight for _, weight in known], weights / weights.sum()))
    logs = np.repeat(prior[:, :, None], files, axis=2)
    later = np.log(1.0 - sum(weight for _, weight in known))
    found = np.full(files, np.inf)
    for before, bets in enumerate(tables(stored, runs)):
        earlier, now = values[:, : stored + before], values[:, stored + before, None]
        equal = (earlier == now).sum(axis=1)
        ranks = (earlier < now).sum(axis=1) + (generator.random(files) * (equal + 1)).astype(int)
        logs[: len(bets)] += bets[:, :, ranks]
        together = special.logsumexp(logs, axis=(0, 1))
        alarm = (np.logaddexp(together, later) >= np.log(ALARM)) & np.isinf(found)
        found[alarm] = before + 1
    return found


def cell(name: str, stored: int, healthy: int, change: str, number: int) -> dict[str, Any]:
    """Return the commits from the change to the alarm, over many files."""
    distribution, std = DISTRIBUTIONS[name]
    generator = np.random.default_rng([SEED, number])
    files = CHANGED if change else FALSE_ALARMS
    commits = healthy + 150 if change else COMMITS
    values = distribution(generator, (files, stored + PER_COMMIT * commits)) / std
    first = stored + PER_COMMIT * healthy
    if change:
        values[:, first:] = CHANGES[change](generator, values[:, first:])
    ends = np.ceil(runs_until_alarm(values, stored, generator) / PER_COMMIT)
    before = float((ends <= healthy).mean()) if change else float(np.isfinite(ends).mean())
    after = np.where(ends > healthy, ends - healthy, np.inf)
    quartiles = np.quantile(after, (0.25, 0.5, 0.75), method="lower").tolist()
    return {
        "false alarms": before,
        "found": float(np.isfinite(after).mean()) if change else None,
        "quartiles": [None if value == np.inf else value for value in quartiles],
        "files": files,
    }


def labels() -> list[tuple[str, int, int, str]]:
    """Return the cells: distribution, reference runs, healthy commits, and the change."""
    changed = product(("normal",), STORED, HEALTHY, CHANGES)
    others = product(list(DISTRIBUTIONS)[1:], (20,), (50,), CHANGES)
    return [*product(DISTRIBUTIONS, STORED, (COMMITS,), ("",)), *changed, *others]


def main() -> None:
    """Simulate the cells that are not stored, and write the tables."""
    path = REPORTS / "evidence.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": {}}
    cells: dict[str, dict[str, Any]] = stored["cells"]
    # Cells with equal tables follow each other.
    order = sorted(enumerate(labels()), key=lambda each: (each[1][2], each[1][1]))
    for number, (name, runs, healthy, change) in order:
        label = f"{name}, {runs} reference runs, {healthy} healthy commits, {change or 'none'}"
        if label not in cells:
            cells[label] = cell(name, runs, healthy, change, number)
            text = {"provenance": provenance(), "cells": cells}
            path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    healthy_rows, rows = [], []
    for name, runs, healthy, change in labels():
        label = f"{name}, {runs} reference runs, {healthy} healthy commits, {change or 'none'}"
        one = cells[label]
        if not change:
            count = round(one["false alarms"] * one["files"])
            healthy_rows.append((name, str(runs), str(one["files"]), str(count)))
            continue
        low, median, high = ("-" if q is None else f"{q:.0f}" for q in one["quartiles"])
        found = f"{one['found']:.3f}"
        rows.append((name, str(runs), str(healthy), change, found, median, f"{low} to {high}"))
    title = f"False alarms in {COMMITS} healthy commits (stated: at most 1 in {ALARM:g} files)"
    heads = ("distribution", ">reference runs", ">files", ">files with an alarm")
    first = Table(title, heads, healthy_rows).markdown()
    title = f"Commits from a change to the alarm, {PER_COMMIT} runs per commit ({CHANGED} files)"
    columns = ("distribution", ">reference runs", ">healthy commits before", "change", *ENDS)
    page = f"{first}\n{Table(title, columns, rows).markdown()}"
    (REPORTS / "evidence.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
