"""Simulate session verdicts: how often healthy and shifted sessions fail.

    python benchmarks/experiments/session_verdicts.py    # writes reports/gates/session.{md,json}

Every session has 20 arms. The figures of each arm have the named distribution, and every new run is
lower by the given number of standard deviations of that distribution. "gates" is the fraction of
sessions in which at least one of the gates would fail at the first look, at its share of alpha; it
is what the same runs show without the session verdict.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table
from dlsys_bench.verdicts.budget import ALPHA, SESSION_SHARE, share
from dlsys_bench.verdicts.ranks import p_values
from dlsys_bench.verdicts.session import judge_session
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome

REPORTS = Path(__file__).parents[2] / "reports" / "gates"
ARMS, SESSIONS, SEED = 20, 1000, 20261128
STORED, NEW, DROPS = (5, 20), (2, 5), (0.0, 0.5, 1.0)

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


def simulate(name: str, stored: int, new: int, drop: float) -> dict[str, object]:
    """Return the fractions of sessions that fail, by the session verdict and by the gates."""
    draw, std = DISTRIBUTIONS[name]
    generator = np.random.default_rng([SEED, stored, new, int(10 * drop), len(name)])
    session, gates = 0, 0
    for _ in range(SESSIONS):
        figures = draw(generator, (ARMS, stored + new))
        figures[:, stored:] -= drop * std
        arms = [(each[:stored], each[stored:]) for each in figures.tolist()]
        strata = [Stratum.of(*arm, higher_is_better=True) for arm in arms]
        session += judge_session(strata, SESSION_SHARE * ALPHA, 0.01).outcome is Outcome.FAIL
        gates += any(2 * min(p_values(*arm)) <= share(ARMS) for arm in arms)
    cell = {"distribution": name, "stored": stored, "new": new, "drop": drop}
    return cell | {"session": session / SESSIONS, "gates": gates / SESSIONS}


def main() -> None:
    """Simulate every cell, and write the table."""
    cells = [
        simulate(name, stored, new, drop)
        for name in DISTRIBUTIONS
        for stored in STORED
        for new in NEW
        for drop in DROPS
    ]
    text = {"provenance": provenance(), "arms": ARMS, "sessions": SESSIONS, "cells": cells}
    (REPORTS / "session.json").write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    rows = [tuple(map(str, cell.values())) for cell in cells]
    title = (
        f"Fraction of {SESSIONS:,} simulated sessions of {ARMS} arms that fail, "
        f"at a false-alarm rate of {SESSION_SHARE * ALPHA:g} (session) and "
        f"{(1 - SESSION_SHARE) * ALPHA:g} (gates)"
    )
    columns = ("distribution", "reference runs", "new runs", "drop (std)", "session", "gates")
    (REPORTS / "session.md").write_text(Table(title, columns, rows).markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
