"""The decision of a gate, and its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlsys_bench.verdicts.bands import Band
from dlsys_bench.verdicts.verdict import Outcome

EXACT = 1 + 1e-9
"""A level is often exactly the p-value of the most extreme outcome; rounding must not separate
them."""

DIRECTIONS = {"both": "either way", "drop": "down", "rise": "up"}

EXTREMES = {-1: "below", 1: "above"}

OPPOSITE = {"drop": "higher", "rise": "lower"}


@dataclass(frozen=True)
class Decision:
    """The end of a gate.

    `p_value` is the one-sided p-value of the new runs: the probability of values so extreme if new
    and reference runs have the same distribution. `shift` is the median difference of a new and a
    reference run (Hodges & Lehmann 1963). `beyond` holds the places of the runs that lie beyond
    every reference run by more than the smallest shift. `warning` describes what does not fail.
    """

    outcome: Outcome
    reason: str
    values: tuple[float, ...]
    shift: float | None = None
    p_value: float | None = None
    beyond: tuple[int, ...] = ()
    warning: str | None = None


@dataclass(frozen=True)
class Departure:
    """A way in which new runs differ from the reference runs, with its p-value and level."""

    what: str
    p_value: float
    level: float

    @property
    def is_significant(self) -> bool:
        """True if the runs fail."""
        return self.p_value <= self.level * EXACT


def median_shift(values: Sequence[float], reference: Sequence[float]) -> float | None:
    """Return the median difference of a new and a reference run; None if there is no finite one."""
    with np.errstate(invalid="ignore"):
        differences = np.subtract.outer(np.asarray(values), np.asarray(reference))
    finite = differences[np.isfinite(differences)]
    return float(np.median(finite)) if finite.size else None


def describe_band(band: Band) -> str:
    """Return the number, the moments and the source of the reference runs."""
    runs = f"{band.n} reference run{'s' * (band.n != 1)}"
    return f"{runs} ({band.mean:.4f} ± {band.std:.4f}; {band.source})"
