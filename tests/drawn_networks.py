"""What drawn networks are left out of comparisons of two trainings."""

from __future__ import annotations

import math

from dlsys_bench.spec.layers import GroupNorm
from dlsys_bench.spec.model import Model


def normalises_several_values(model: Model) -> bool:
    """Return False for a group norm of single values, whose outputs and gradients are rounding:
    Adam divides them by their size, and an output of zero has either sign."""
    return not any(
        isinstance(row.layer, GroupNorm) and math.prod(row.shape) == row.layer.groups
        for row in model.table
    )
