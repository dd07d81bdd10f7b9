"""What may explain a verdict: what has changed since the reference runs were trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.dependencies import TRAINING, changes_since
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.verdict import Outcome, Verdict

UNITS = {100.0: "fractions and per cent", 1000.0: "units and thousandths"}
"""The ratios of figures in different units, with what they may be."""

LIKENESS = 0.2
"""The largest relative deviation from a ratio of UNITS."""


def change_of_unit(values: Sequence[float], reference: Sequence[float]) -> str | None:
    """Describe new figures that look like the reference figures in another unit; None if none do.

    The reference figures have to be of one magnitude: half of them within LIKENESS of the median.
    """
    new, stored = ([value for value in each if isfinite(value)] for each in (values, reference))
    if not new or not stored:
        return None
    x, y = float(np.median(stored)), float(np.median(new))
    if not x or not y or np.median(np.abs(np.divide(stored, x) - 1)) > LIKENESS:
        return None
    for ratio, units in UNITS.items():
        for times, found in ((y / x, ratio), (x / y, ratio)):
            if abs(times / found - 1) <= LIKENESS:
                return (
                    f"its figures are about {y:.4g}, those of the reference {x:.4g}, "
                    f"as if the unit had changed ({units})"
                )
    return None


def changes_since_baseline(reference: Sequence[Result]) -> list[str]:
    """Describe what the reference runs depend on, and their machine, where that differs now."""
    run = next((run for run in reversed(reference) if run.provenance.get(TRAINING)), None)
    if run is None:
        return ["unknown, as the reference does not record what it depends on"]
    try:
        found = changes_since(run)
    except UserError as error:
        found = [f"unknown: {error}"]
    before, now = run.provenance.get("machine", {}), provenance()["machine"]
    for name in ("system", "processor", "cores"):
        if name in before and before[name] != now[name]:
            found.append(f"{name} {before[name]} -> {now[name]}")
    return found


def explained(verdict: Verdict, reference: Sequence[Result], values: Sequence[float]) -> Verdict:
    """Return a verdict of FAIL with what has changed since its reference runs were trained."""
    if verdict.outcome is not Outcome.FAIL:
        return verdict
    found = [unit] if (unit := change_of_unit(verdict.values, values)) else []
    return replace(verdict, changes=(*found, *changes_since_baseline(reference)))
