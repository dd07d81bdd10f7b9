"""The false-alarm rate of a session, and how its gates share it."""

from __future__ import annotations

ALPHA = 1e-3

SESSION_SHARE = 0.25
"""The part of the false-alarm rate of several gates that the verdict over all of them has. With a
quarter less, a gate detects shifts that are larger by 2% to 3%."""


def share(gates: int, budget: float = ALPHA) -> float:
    """Return the part of a false-alarm budget that each of several gates has (Bonferroni).

    If there are several, the verdict over all of them has SESSION_SHARE of it.
    """
    return budget * (1 - SESSION_SHARE) / gates if gates > 1 else budget
