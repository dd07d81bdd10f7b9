"""Claims, and the rulings on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dlsys_bench.verdicts.difference import LEVEL

Claim = Mapping[str, Any]


class Ruling(StrEnum):
    """The result of testing a claim. UNSOUND: the published figure does not support the claim,
    whether it is reproduced or not."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    UNSOUND = "unsound"
    NOT_TESTABLE = "not testable"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Judged:
    """A claim and its ruling.

    `interval` (95%) and `p`, the p-value under the claim, are those of the test that `reason`
    names. `q` is the p-value adjusted for the false-discovery rate over all figures tested.
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
    def published(self) -> str:
        """The published figure or, where there is none, the published text."""
        return published(self.claim)

    def to_dict(self) -> dict[str, Any]:
        """The ruling as JSON values."""
        return {
            "claim": self.claim["id"],
            "study": self.claim["study"],
            "kind": self.claim["kind"],
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
