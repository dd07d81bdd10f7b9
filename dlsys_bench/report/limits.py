"""The limits of an axis that leave out the beginning of trainings, so that their ends differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

START = 0.25
"""The part of a training whose values do not widen the axis."""


def late_limits(histories: Iterable[Sequence[float]]) -> tuple[float, float] | None:
    """Return the range of the values after START of each training; None if there are none."""
    late = [value for values in histories for value in values[int(START * len(values)) :]]
    return (min(late), max(late)) if late else None
