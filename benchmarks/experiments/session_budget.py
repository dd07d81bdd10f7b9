"""Simulate whole sessions: the gates of 20 arms, and the session verdict over their first runs.

    python benchmarks/experiments/session_budget.py    # writes reports/gates/budget.{md,json}

The gates share three quarters of alpha 1e-3 and stop as they do; the session verdict has the rest
and judges the runs up to the first look. Gates with too few reference runs for any FAIL train two
seeds, are INCONCLUSIVE, and enter the session verdict nevertheless. The arms are independent, and
all are changed in the same way. The columns are the fractions of sessions in which a gate fails, in
which the session verdict does, and in which either does; the fraction of gates that are
INCONCLUSIVE, and of sessions in which one is; and the mean number of runs of a session. Each cell
is stored as it ends. Figures with ties are judged by the gates and by the session verdict
themselves, so that there are fewer: 1,000 sessions of each cell, which are 20,000 gates.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from gate_rates import OUTCOMES, STORED, decides, ends, ends_of_gates, table_of
from session_verdicts import (
    ARMS,
    CHANGES,
    DISTRIBUTIONS,
    LEVELS,
    drawn,
    stored_cells,
    tied_p_values,
    untied_p_values,
)

from dlsys_bench.provenance import provenance
from dlsys_bench.verdicts.budget import share
from dlsys_bench.verdicts.candidate import BLIND_SEEDS
from dlsys_bench.verdicts.design import Design

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
HEALTHY, CHANGED, TIED, AT_A_TIME = 20_000, 2_000, 1_000, 500
"""The numbers of sessions: of healthy cells, of changed ones, of figures with ties, and simulated
at a time."""

FIRST_SESSION = 2_000_000
"""The first number of the seeds of sessions, apart from those of the other simulations."""

TIES = ("discrete",)
NAMES = ("distribution", "reference runs", "change")
FAIL, INCONCLUSIVE = OUTCOMES.index("FAIL"), OUTCOMES.index("INCONCLUSIVE")


def simulate(name: str, stored: int, change: str) -> dict[str, Any]:
    """Return how the sessions of a cell end."""
    design = Design.of(stored, share(ARMS), side="drop")
    sessions, judge, p_values = HEALTHY if change == "none" else CHANGED, ends, untied_p_values
    if name in TIES:
        sessions, judge, p_values = TIED, ends_of_gates, tied_p_values
    found = []
    first = design.looks[0] if decides(design) else BLIND_SEEDS
    for done in range(0, sessions, AT_A_TIME):
        places = list(CHANGES).index(change), list(DISTRIBUTIONS).index(name)
        shape = (AT_A_TIME, ARMS, stored + design.seeds)
        x, y = drawn(name, change, shape, design.seeds, [FIRST_SESSION + done, stored, *places])
        flat = judge(x.reshape(-1, stored), y.reshape(-1, design.seeds), design)
        outcome = flat.outcome.reshape(AT_A_TIME, ARMS)
        p = p_values(x, y[..., :first])
        tests = [p[test] <= LEVELS[test] * (1 + 1e-9) for test in ("shift", "tail", "spread")]
        lost = outcome == INCONCLUSIVE
        found.append(
            (
                (outcome == FAIL).any(axis=1),
                np.any(tests, axis=0),
                lost.mean(axis=1),
                lost.any(axis=1),
                np.maximum(flat.seeds.reshape(AT_A_TIME, ARMS), first).sum(axis=1),
            )
        )
    by_gate, by_session, lost, any_lost, runs = (
        np.concatenate(each) for each in zip(*found, strict=True)
    )
    return {
        **dict(zip(NAMES, (name, stored, change), strict=True)),
        "sessions": sessions,
        "a gate FAILs": float(by_gate.mean()),
        "the session FAILs": float(by_session.mean()),
        "either": float((by_gate | by_session).mean()),
        "gates INCONCLUSIVE": float(lost.mean()),
        "sessions with one": float(any_lost.mean()),
        "runs": float(runs.mean()),
    }


def main() -> None:
    """Simulate every cell that is not stored, and write the table."""
    path = REPORTS / "budget.json"
    wanted = list(product(DISTRIBUTIONS, STORED, CHANGES))
    title = f"Sessions of {ARMS} arms: fractions that FAIL, and the mean number of runs"
    known, found = stored_cells(path, NAMES), list[dict[str, Any]]()
    # Healthy sessions first: their rates are what the budget promises.
    for cell in sorted(wanted, key=lambda one: one[2] != "none"):
        known[cell] = known.get(cell) or simulate(*cell)
        found = [known[each] for each in wanted if each in known]
        text = {"provenance": provenance(), "cells": found}
        path.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        (REPORTS / "budget.md").write_text(table_of(title, found), encoding="utf-8")


if __name__ == "__main__":
    main()
