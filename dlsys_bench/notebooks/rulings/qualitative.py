"""Claims that a text makes of pictures, as numbers that every run has to show."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from dlsys_bench.notebooks.rulings.ruling import Claim, Judged, Ruling, unmeasured
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs
from dlsys_bench.studies.registry import studies

KEPT = (0.5, 2.0)
"""A layer keeps its scale that is neither half nor twice that of another."""


def violins(claim: Claim, runs: Runs) -> Judged:
    """What nb2 and nb4 say of the violins of five hidden layers, held in every run."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for arm in studies()["initialization"].arms:
        found[arm.name] = [run.figures for run in runs.of("initialization", arm.name)]
    if not all(len(part) >= FEWEST for part in found.values()):
        return unmeasured(claim, min(map(len, found.values())))
    checks: dict[str, bool] = {}
    for function in ("tanh", "sigmoid"):
        arms = [found[f"{function}/normal({sigma:g})"] for sigma in claim["sigmas"]]
        glorot = found[f"{function}/glorot_normal"]
        # Below the end of the range the spread tells the sigmas apart, at the end the saturated
        # fraction.
        spread, ends = (
            [[run[name][0] for run in arm] for arm in arms] for name in ("deviation", "saturated")
        )
        checks[f"{function} moves to the ends in layer 1 as sigma grows"] = all(
            max(low) < min(high) for low, high in pairwise(spread)
        ) and max(ends[0]) < min(ends[-1])
        checks[
            f"Glorot keeps {function} spread over five layers, and off the ends where the largest sigma is not"
        ] = all(KEPT[0] < run["decay"] < KEPT[1] for run in glorot) and max(
            max(run["saturated"]) for run in glorot
        ) < min(max(run["saturated"]) for run in arms[-1])
    ratios = {
        start: [a["decay"] for a in found[f"relu/{start}"]]
        for start in ("glorot_normal", "he_normal")
    }
    checks["ReLU shrinks under Glorot"] = max(ratios["glorot_normal"]) < KEPT[0]
    checks["ReLU keeps its scale under He"] = all(
        KEPT[0] < ratio < KEPT[1] for ratio in ratios["he_normal"]
    )
    wrong = [name for name, good in checks.items() if not good]
    means = {start: float(np.mean(values)) for start, values in ratios.items()}
    measured = f"ReLU, layer 5 over layer 1: Glorot {means['glorot_normal']:.2f}, He {means['he_normal']:.2f}"
    reason = f"{len(checks) - len(wrong)} of {len(checks)} statements hold in every run" + (
        f"; not: {', '.join(wrong)}" if wrong else ""
    )
    ruling = Ruling.NOT_REPRODUCED if wrong else Ruling.REPRODUCED
    return Judged(claim, ruling, reason, measured, runs=min(map(len, found.values())))
