"""Loss scaling by definition. In exact arithmetic a scale changes nothing, and the oracle trains
without one. What it does to an engine is to leave out updates whose scaled gradient overflows."""

from __future__ import annotations

from collections.abc import Sequence

from dlsys_bench.spec.loss_scale import LARGEST, LossScale


def updates_made(record: LossScale, limits: Sequence[float]) -> list[bool]:
    """Return whether the update of each batch is made, if its gradient overflows under every scale
    above its limit."""
    scale, in_a_row, made = record.initial, 0, list[bool]()
    for limit in limits:
        made.append(scale <= limit)
        in_a_row = in_a_row + 1 if made[-1] else 0
        if not made[-1]:
            scale *= record.backoff
        elif in_a_row % record.interval == 0:
            scale = min(scale * record.growth, LARGEST)
    return made
