"""Claims that a text makes about plots, as conditions on numbers that hold in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs
from dlsys_bench.notebooks.studies.initialization import case_of
from dlsys_bench.spec.initializers import GlorotNormal, HeNormal, Initializer, Normal
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling, unmeasured

KEPT = (0.5, 2.0)
"""A layer keeps its scale if its standard deviation is within these multiples of another's."""

ArmFigures = Sequence[Mapping[str, Any]]
"""The figures of the runs of one arm."""


def violins(claim: Claim, runs: Runs) -> Judged:
    """Test the statements of nb2 and nb4 about the violin plots of five hidden layers."""
    study = studies()[claim["study"]]
    found: dict[tuple[str, Initializer], ArmFigures] = {
        case_of(arm): [run.figures for run in runs.of(study.name, arm.name)] for arm in study.arms
    }
    fewest = min(map(len, found.values()))
    if fewest < FEWEST:
        return unmeasured(claim, fewest)
    checks: dict[str, bool] = {}
    for function in ("tanh", "sigmoid"):
        normal = [found[function, Normal(sigma)] for sigma in claim["sigmas"]]
        checks |= _bounded(function, normal, found[function, GlorotNormal()])
    glorot, he = (
        [figures["decay"] for figures in found["relu", initializer]]
        for initializer in (GlorotNormal(), HeNormal())
    )
    checks["ReLU shrinks under Glorot"] = max(glorot) < KEPT[0]
    checks["ReLU keeps its scale under He"] = all(KEPT[0] < ratio < KEPT[1] for ratio in he)
    wrong = [name for name, holds in checks.items() if not holds]
    measured = (
        f"ReLU, layer 5 over layer 1: Glorot {float(np.mean(glorot)):.2f}, "
        f"He {float(np.mean(he)):.2f}"
    )
    reason = f"{len(checks) - len(wrong)} of {len(checks)} statements hold in every run" + (
        f"; not: {', '.join(wrong)}" if wrong else ""
    )
    ruling = Ruling.NOT_REPRODUCED if wrong else Ruling.REPRODUCED
    return Judged(claim, ruling, reason, measured, runs=fewest)


def _bounded(function: str, normal: Sequence[ArmFigures], glorot: ArmFigures) -> dict[str, bool]:
    """The statements about a bounded activation: under normal weights of rising standard deviation
    sigma, and under Glorot's."""
    # Standard deviations tell the smaller sigmas apart, saturated fractions the largest ones.
    deviations, saturated = (
        [[run[name][0] for run in runs] for runs in normal] for name in ("deviation", "saturated")
    )
    moves = all(max(low) < min(high) for low, high in pairwise(deviations))
    largest = max(max(run["saturated"]) for run in glorot)
    return {
        f"{function} moves to the ends in layer 1 as sigma grows": moves
        and max(saturated[0]) < min(saturated[-1]),
        f"Glorot keeps {function} spread over five layers, and off the ends where the largest "
        "sigma is not": all(KEPT[0] < run["decay"] < KEPT[1] for run in glorot)
        and largest < min(max(run["saturated"]) for run in normal[-1]),
    }
