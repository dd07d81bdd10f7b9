"""Claims, and the rulings on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dlsys_bench.verdicts.difference import LEVEL

Claim = Mapping[str, Any]

CATEGORIES = {
    "counts": ("exact",),
    "measurements": ("band", "trajectory", "bound", "speed", "unrecoverable"),
    "statements": ("ordering", "equivalence", "argmin", "monotone", "qualitative"),
}
"""The kinds of claims in each category, whose rulings are counted separately."""


class Ruling(StrEnum):
    """The result of testing a claim. UNSOUND: the published figure does not support the claim,
    whether it is reproduced or not. NOT_PRINTED: no notebook prints the figure, which follows from
    the layers that it lists."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    UNSOUND = "unsound"
    NOT_TESTABLE = "not testable"
    NOT_PRINTED = "not printed"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Judged:
    """A claim and its ruling.

    `interval` (95%) and `p`, the p-value under the claim, are those of the test that `reason`
    names. `q` is the p-value adjusted for the other figures of its run and for all runs.
    """

    claim: Claim
    ruling: Ruling
    reason: str
    measured: str = ""
    interval: tuple[float, float] | None = None
    p: float | None = None
    runs: int = 0
    q: float | None = None

    @property
    def category(self) -> str:
        """The category of the claim."""
        kind = self.claim["kind"]
        return next(name for name, kinds in CATEGORIES.items() if kind in kinds)

    @property
    def published(self) -> str:
        """The published figure or, where there is none, the published text."""
        return published(self.claim)

    def to_dict(self) -> dict[str, Any]:
        """The ruling as JSON values."""
        return {
            "claim": self.claim["id"],
            "study": self.claim["study"],
            "kind": self.claim["kind"],
            "category": self.category,
            "published": self.published,
            "measured": self.measured,
            "interval": self.interval,
            "p": self.p,
            "q": self.q,
            "runs": self.runs,
            "ruling": self.ruling.value,
            "reason": self.reason,
        }


def published(claim: Claim) -> str:
    """The published figure of a claim or, where there is none, the published text."""
    value = claim.get("value", claim.get("values"))
    if value is None:
        return str(claim.get("text", ""))
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else f"{value:g}"


def unmeasured(claim: Claim, runs: int) -> Judged:
    """The ruling for a claim that has too few stored runs."""
    study = claim["study"]
    return Judged(
        claim,
        Ruling.UNMEASURED,
        f"dlsys-bench run {study} --tier full --reference --seeds 5 stores the runs that it takes",
        runs=runs,
    )


__all__ = ["LEVEL", "Claim", "Judged", "Ruling", "published", "unmeasured"]
