"""The standard deviation of reference runs without outliers.

The default shift of a gate is a multiple of a standard deviation. One reference run that collapsed
would inflate it, and with it the shift that passes. Outliers are found by the generalised extreme
studentised deviate test (Rosner 1983), which several outliers cannot hide from: the run that
deviates most is removed up to `len // 4` times, and all runs up to the last significant one are
outliers. Of normally distributed files, one in a thousand has an outlier by this test.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

import numpy as np
import scipy

from dlsys_bench.verdicts.bands import Band

LEVEL = 1e-3
"""The fraction of normally distributed files of which some run counts as an outlier."""

FEWEST = 5
"""With fewer runs no run counts as an outlier."""


def typical_std(values: Sequence[float], resolution: float = 0.0) -> float:
    """Return the standard deviation of the runs that are not outliers.

    `values` are finite. If the other runs are all equal, nothing is known about their standard
    deviation, and no run is left out. `resolution` is that of `Band.of`.
    """
    kept = without_outliers(values)
    if min(kept) == max(kept) or len(kept) == len(values):
        kept = list(values)
    return Band.of(kept, "", resolution).std


def without_outliers(values: Sequence[float]) -> list[float]:
    """Return the values that are not outliers, in any order."""
    kept = sorted(values)
    found = kept
    for _ in range(len(values) // 4 if len(values) >= FEWEST else 0):
        deviations = np.abs(np.asarray(kept) - np.mean(kept))
        std = float(np.std(kept, ddof=1))
        if std <= 1e-12 * max(map(abs, kept)):
            break
        removed = int(deviations.argmax())
        significant = deviations[removed] / std > _critical(len(kept))
        kept = [*kept[:removed], *kept[removed + 1 :]]
        if significant:
            found = kept
    return found


@lru_cache(maxsize=1024)
def _critical(left: int) -> float:
    """Return the studentised deviation that the farthest of the values that are left exceeds with
    probability LEVEL if they are normally distributed."""
    t = float(scipy.stats.t.isf(LEVEL / (2 * left), left - 2))
    return (left - 1) * t / sqrt((left - 2 + t**2) * left)
