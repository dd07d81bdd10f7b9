"""The runs of a gate and its reference runs, for the evidence that sessions accumulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from dlsys_bench.runs.store.text import DIGITS


@dataclass(frozen=True)
class JudgedRuns:
    """The figures of the reference runs and of the new runs, in order; low figures are worse.

    A run that diverged is -inf. With `one_sided`, only a change to the worse counts.
    """

    reference: tuple[float, ...]
    new: tuple[float, ...]
    one_sided: bool

    @classmethod
    def of(
        cls,
        reference: Sequence[float],
        new: Sequence[float],
        higher_is_better: bool | None,
        one_sided: bool = False,
    ) -> JudgedRuns:
        """Return these runs with the precision of stored figures, so that equal ones are equal."""
        sign = -1.0 if higher_is_better is False else 1.0
        sides = [tuple(_stored(sign * value) for value in side) for side in (reference, new)]
        return cls(sides[0], sides[1], one_sided)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> JudgedRuns:
        """Return the runs that `to_dict` describes."""
        sides = [
            tuple(-inf if value is None else float(value) for value in stored[name])
            for name in ("reference", "new")
        ]
        return cls(sides[0], sides[1], stored["one_sided"])

    def to_dict(self) -> dict[str, Any]:
        """Return the runs as JSON values; the figure of a run that diverged is None."""
        return {
            "reference": [value if isfinite(value) else None for value in self.reference],
            "new": [value if isfinite(value) else None for value in self.new],
            "one_sided": self.one_sided,
        }


def _stored(value: float) -> float:
    """Return a figure as stored files have it; nan, a run that diverged, is the worst."""
    return float(f"{value:.{DIGITS}g}") if isfinite(value) else -inf
