"""Simulate session verdicts: how often healthy and changed sessions fail, and by which test.

    python benchmarks/experiments/session_verdicts.py    # writes reports/gates/session.{md,json}

Every session has 20 arms. The figures of each arm have the named distribution, and the new runs of
every arm are changed in the same way. The columns are the fractions of sessions that fail, by the
test of a shift, of the tail, of the spread, and by any of them; "gates" is the fraction in which at
least one of the gates would fail with the same runs, at its share of alpha. Sessions without ties
are simulated with arrays, and some of them are compared with `judge_session`; those with ties are
judged by it. Every cell is stored as it ends, and a second start continues where the first ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.verdicts.budget import (
    ALPHA,
    SESSION_SHARE,
    SHIFT_SHARE,
    SPREAD_SHARE,
    TAIL_SHARE,
    share,
)
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.rank_tests import (
    spread_probabilities,
    spread_scores,
    tail_probabilities,
)
from dlsys_bench.verdicts.ranks import untied
from dlsys_bench.verdicts.session import judge_session
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
ARMS, SEED = 20, 20261129
UNTIED, TIED, COMPARED = 20_000, 200, 10
"""The numbers of sessions of a cell: without ties, with ties, and judged in both ways."""
STORED, NEW = (5, 10, 20, 50), (2, 5)
LEVEL = SESSION_SHARE * ALPHA

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def collapsing(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Normal figures, of which one in twelve is lower by twenty standard deviations."""
    return generator.standard_normal(size) - 20 * (generator.random(size) < 1 / 12)


def bimodal(generator: np.random.Generator, size: tuple[int, ...]) -> NDArray[np.float64]:
    """Two normal distributions of equal weight, four standard deviations from each other."""
    return generator.standard_normal(size) + 4 * generator.integers(0, 2, size)


DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda generator, size: generator.standard_normal(size), 1.0),
    "discrete": (lambda generator, size: np.rint(generator.normal(0, 2, size)), 2.0),
    "skewed": (lambda generator, size: -generator.gamma(2.0, 1.0, size), sqrt(2.0)),
    "heavy-tailed": (lambda generator, size: generator.standard_t(3, size), sqrt(3.0)),
    "one in 12 collapses": (collapsing, 1.0),
    "bimodal": (bimodal, sqrt(5.0)),
}
"""The distributions, with the standard deviation in which a drop is measured."""


Change = Callable[[np.random.Generator, Values, float], Values]

CHANGES: dict[str, Change] = {
    "none": lambda _, new, std: new,
    "drop of 0.5": lambda _, new, std: new - 0.5 * std,
    "drop of 1": lambda _, new, std: new - std,
    "one in 4 collapses": lambda generator, new, std: (
        new - 50 * std * (generator.random(new.shape) < 0.25)
    ),
    "doubled spread": lambda _, new, std: 2 * (new - np.median(new)) + np.median(new),
}
"""The changes of new runs, in standard deviations."""


def drawn(
    name: str,
    change: str,
    shape: tuple[int, ...],
    new: int,
    seed: list[int],
    changes: Mapping[str, Change] = CHANGES,
) -> tuple[Values, Values]:
    """Return reference runs and new runs, in the last axis."""
    (draw, std), generator = DISTRIBUTIONS[name], np.random.default_rng([SEED, *seed])
    figures = draw(generator, shape)
    stored, judged = figures[..., :-new], figures[..., -new:]
    return stored, changes[change](generator, judged, std)


@lru_cache(maxsize=64)
def sums(arms: int, stored: int, new: int) -> tuple[Values, Values, Values]:
    """Return the distributions over all arms of the number of pairs in which a new run exceeds a
    stored one, of the new runs beyond all stored ones, and of the scores of the spread."""
    scores = spread_scores(2 * np.arange(1, stored + new + 1))
    each = (
        np.diff(untied(stored, new), prepend=0.0),
        tail_probabilities(stored, new),
        spread_probabilities(tuple(sorted(scores.tolist())), new),
    )
    totals = [np.ones(1)] * 3
    for _ in range(arms):
        totals = [np.convolve(total, one) for total, one in zip(totals, each, strict=True)]
    return totals[0], totals[1], totals[2]


def untied_p_values(stored: Values, judged: Values) -> dict[str, Values]:
    """Return the one-sided p-values of each test in sessions, whose arms are the second axis."""
    arms, n = stored.shape[-2:]
    m = judged.shape[-1]
    ranks = np.concatenate([stored, judged], axis=-1).argsort(axis=-1).argsort(axis=-1)[..., n:]
    pairs = ranks.sum(axis=-1) - m * (m - 1) // 2
    shift, tail, spread = sums(arms, n, m)
    beyond = (judged < stored.min(axis=-1, keepdims=True)).sum(axis=-1)
    table = spread_scores(2 * np.arange(1, n + m + 1))
    scores = table[ranks]
    low = np.where(2 * ranks + 1 < n + m, scores, 0).sum(axis=(-1, -2))
    lower = np.where(2 * np.arange(n + m) + 1 < n + m, table, 0)
    heavy = low >= arms * m * lower.mean() - 1e-9
    of_spread = np.cumsum(spread[::-1])[::-1][scores.sum(axis=(-1, -2))]
    return {
        "shift": np.cumsum(shift)[pairs.sum(axis=-1)],
        "tail": np.cumsum(tail[::-1])[::-1][beyond.sum(axis=-1)],
        "spread": np.where(heavy, of_spread, 1.0),
        "gates": untied(n, m)[pairs].min(axis=-1),
    }


LEVELS = {
    "shift": SHIFT_SHARE * LEVEL,
    "tail": TAIL_SHARE * LEVEL,
    "spread": SPREAD_SHARE * LEVEL,
    "gates": SHIFT_SHARE * share(ARMS),
}


def tied_p_values(stored: Values, judged: Values) -> dict[str, Values]:
    """Return what `untied_p_values` does, as `judge_session` computes it; gates are left out."""
    rows = []
    for x, y in zip(stored.tolist(), judged.tolist(), strict=True):
        arms = [
            Stratum.of(JudgedRuns.of(*arm, True, one_sided=True)) for arm in zip(x, y, strict=True)
        ]
        found = judge_session(arms, LEVEL, 0.01)
        rows.append((found.p_value, found.tail_p_value, found.spread_p_value))
        assert (found.outcome is Outcome.FAIL) == bool(found.failures)
    table = np.array(rows)
    return {"shift": table[:, 0], "tail": table[:, 1], "spread": table[:, 2]}


def simulate(name: str, stored: int, new: int, change: str) -> dict[str, Any]:
    """Return the fractions of sessions that fail."""
    tied = name == "discrete"
    sessions = TIED if tied else UNTIED
    counts, done = dict.fromkeys([*LEVELS, "any"], 0), 0
    while done < sessions:
        size = min(1000, sessions - done)
        seed = [stored, new, list(CHANGES).index(change), list(DISTRIBUTIONS).index(name), done]
        x, y = drawn(name, change, (size, ARMS, stored + new), new, seed)
        p = tied_p_values(x, y) if tied else untied_p_values(x, y)
        if not tied and not done:
            for test, values in tied_p_values(x[:COMPARED], y[:COMPARED]).items():
                # The grid of `judge_session` orders outcomes of equal rank sums.
                np.testing.assert_allclose(p[test][:COMPARED], values, rtol=0.3, atol=1e-5)
        fails = {test: values <= LEVELS[test] * (1 + 1e-9) for test, values in p.items()}
        fails["any"] = fails["shift"] | fails["tail"] | fails["spread"]
        for test, flags in fails.items():
            counts[test] += int(flags.sum())
        done += size
    cell = {"distribution": name, "reference runs": stored, "new runs": new, "change": change}
    found = {test: counts[test] / sessions for test in counts if test != "gates" or not tied}
    return cell | {"sessions": sessions} | found


def cells() -> list[tuple[str, int, int, str]]:
    """Return the cells; of figures with ties, those of two new runs."""
    found = product(DISTRIBUTIONS, STORED, NEW, CHANGES)
    return [cell for cell in found if cell[0] != "discrete" or cell[2] == NEW[0]]


def stored_cells(path: Path, fields: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the cells of an earlier start by their identity."""
    found = json.loads(path.read_text("utf-8"))["cells"] if path.exists() else []
    return {tuple(cell[name] for name in fields): cell for cell in found}


def main() -> None:
    """Simulate every cell that is not stored, and write the table."""
    path = REPORTS / "session.json"
    known = stored_cells(path, ("distribution", "reference runs", "new runs", "change"))
    for cell in cells():
        if known.get(cell, {}).get("sessions") != (TIED if cell[0] == "discrete" else UNTIED):
            known[cell] = simulate(*cell)
            found = [known[each] for each in cells() if each in known]
            text = {"provenance": provenance(), "arms": ARMS, "cells": found}
            path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    columns = ("distribution", ">reference runs", ">new runs", "change", ">sessions")
    tests = ("shift", "tail", "spread", "any", "gates")
    rows = [
        (
            *(f"{known[cell][name.lstrip('>')]}" for name in columns),
            *(f"{known[cell][test]:.4g}" if test in known[cell] else "-" for test in tests),
        )
        for cell in cells()
    ]
    title = (
        f"Fraction of sessions of {ARMS} arms that fail, at a false-alarm rate of {LEVEL:g} of the "
        f"session verdict and {(1 - SESSION_SHARE) * ALPHA:g} of the gates"
    )
    heads = (*columns, *(f">{test}" for test in tests))
    (REPORTS / "session.md").write_text(Table(title, heads, rows).markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
