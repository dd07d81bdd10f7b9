"""The precision of figures, and the place of those of diverged runs."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf, log10

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.runs.store.text import DIGITS


def rounded(value: float) -> float:
    """Return a figure with the precision of stored files."""
    return float(f"{value:.{DIGITS}g}")


def round_up(value: float) -> str:
    """Return a positive number in two significant digits, which is no smaller."""
    place = floor(log10(value)) - 1
    digits = ceil(value / 10.0**place * (1 - 1e-9))
    return f"{digits * 10.0**place:.2g}"


def place_nan(values: Sequence[float] | NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the values with nan, a diverged run, as the lowest (side -1) or the highest (1)."""
    placed = np.array(values, np.float64)
    placed[np.isnan(placed)] = side * inf
    return placed
