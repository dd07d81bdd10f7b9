"""What becomes of a claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dlsys_bench.verdicts.difference import LEVEL

Claim = Mapping[str, Any]


class Ruling(StrEnum):
    """What became of a claim. UNSOUND: the figure cannot bear what is said of it, whether it is
    reproduced or not."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    UNSOUND = "unsound"
    NOT_TESTABLE = "not testable"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Judged:
    """A claim and its ruling. `interval` (95%) and `p` (the chance of as much where the claim is
    true) are of what `reason` names; `q` is the p among all the figures tested."""

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
        """The figure, or what is said."""
        value = self.claim.get("value", self.claim.get("values"))
        if value is None:
            return str(self.claim.get("text", ""))
        return ", ".join(f"{v:g}" for v in value) if isinstance(value, list) else f"{value:g}"

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


def unmeasured(claim: Claim, runs: int) -> Judged:
    """Too few stored runs to say."""
    study = claim["study"]
    return Judged(
        claim,
        Ruling.UNMEASURED,
        f"dlsys-bench run {study} --tier full --reference --seeds 5 stores what it takes",
        runs=runs,
    )


__all__ = ["LEVEL", "Claim", "Judged", "Ruling", "unmeasured"]
