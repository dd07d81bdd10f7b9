"""Claims that a text makes of pictures, as numbers that every run has to show."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from dlsys_bench.studies import STUDIES
from dlsys_bench.verdict.claims.ruling import Claim, Judged, Ruling, unmeasured
from dlsys_bench.verdict.claims.runs import Runs


def violins(claim: Claim, runs: Runs) -> Judged:
    """What nb2 and nb4 say of the violins of five hidden layers."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for arm in STUDIES["initialization"].arms:
        found[arm.name] = [run.figures for run in runs.of("initialization", arm.name)]
    if not all(len(part) >= 3 for part in found.values()):
        return unmeasured(claim, min(map(len, found.values())))
    checks: dict[str, bool] = {}
    for function in ("tanh", "sigmoid"):
        arms = [found[f"{function}/normal({sigma:g})"] for sigma in claim["sigmas"]]
        first = [[run["saturated"][0] for run in runs_of_arm] for runs_of_arm in arms]
        rising = all(max(low) <= min(high) for low, high in pairwise(first))
        checks[f"{function} saturates more in layer 1 as sigma grows"] = rising and min(first[-1]) > 0.1
        glorot = found[f"{function}/glorot_normal"]
        checks[f"Glorot keeps {function} spread and unsaturated"] = all(
            a["decay"] > 0.5 and max(a["saturated"]) < 0.01 for a in glorot
        )
    ratios = {start: [a["decay"] for a in found[f"relu/{start}"]] for start in ("glorot_normal", "he_normal")}
    checks["ReLU shrinks under Glorot"] = max(ratios["glorot_normal"]) < 0.5
    checks["ReLU keeps its scale under He"] = min(ratios["he_normal"]) > 0.5 and max(ratios["he_normal"]) < 2.0
    wrong = [name for name, good in checks.items() if not good]
    means = {start: float(np.mean(values)) for start, values in ratios.items()}
    measured = f"ReLU, layer 5 over layer 1: Glorot {means['glorot_normal']:.2f}, He {means['he_normal']:.2f}"
    reason = f"{len(checks) - len(wrong)} of {len(checks)} statements hold in every run" + (
        f"; not: {', '.join(wrong)}" if wrong else ""
    )
    ruling = Ruling.NOT_REPRODUCED if wrong else Ruling.REPRODUCED
    return Judged(claim, ruling, reason, measured, runs=min(map(len, found.values())))
