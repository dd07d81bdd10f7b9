"""The false-alarm rate of a session, and how its gates and their tests share it."""

from __future__ import annotations

ALPHA = 1e-3

SESSION_SHARE = 0.25
"""The part of the false-alarm rate of several gates that the verdict over all of them has. With a
quarter less, a gate detects shifts that are larger by 2% to 3%."""

SHIFT_SHARE, TAIL_SHARE, SPREAD_SHARE = 6 / 8, 1 / 8, 1 / 8
"""The parts of the false-alarm rate of a verdict that its tests of a shift, of the tail and of the
spread have. They sum to 1, so that together the tests keep to the rate (Bonferroni)."""


def share(gates: int, budget: float = ALPHA) -> float:
    """Return the part of a false-alarm budget that each of several gates has (Bonferroni).

    If there are several, the verdict over all of them has SESSION_SHARE of it.
    """
    return budget * (1 - SESSION_SHARE) / gates if gates > 1 else budget
