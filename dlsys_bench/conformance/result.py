"""The result of one check on one engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from dlsys_bench.conformance.check import Check, find_check
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.text import printable


class Status(StrEnum):
    """The ways in which a check ends."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timed out"
    """The check was ended at its time limit. Whether the engine would have passed is unknown."""
    DECLARED = "declared"
    """The check did not run, because the engine declares that it lacks what the check needs."""
    NOT_REACHED = "not reached"
    """The check did not run, because a check on a lower rung failed."""


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: its status, the finding if it failed, and the command to replay it.

    `reason` states why a check did not run, or which tolerance the engine declares for it, and
    `lacking` what the engine declares to lack that the check requires. `drawn` counts the examples
    that were compared.
    """

    name: str
    rung: str
    subject: str
    status: Status
    seconds: float = 0.0
    drawn: int = 0
    finding: Finding | None = None
    reason: str | None = None
    replay: str | None = None
    lacking: str | None = None

    def __post_init__(self) -> None:
        if self.reason is not None:
            object.__setattr__(self, "reason", printable(self.reason))

    @classmethod
    def of(cls, check: Check, status: Status, **more: Any) -> Self:
        """Return the result of a check."""
        return cls(check.name, check.rung, check.subject, status, **more)

    @property
    def breaks(self) -> bool:
        """True if the check failed, so that those on higher rungs cannot be relied on."""
        stale = self.finding is not None and self.finding.fault is Fault.STALE_DECLARATION
        return self.status is Status.FAILED and not stale

    def message(self) -> str:
        """Return the finding, with the check and the command to replay it, or the reason."""
        if self.finding is None:
            return f"{self.name}: {self.status}" + (f": {self.reason}" if self.reason else "")
        replay = f"\n  replay: {self.replay}" if self.replay else ""
        return f"{self.name}: {self.finding}{replay}"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        optional = {
            "drawn": self.drawn or None,
            "finding": self.finding and self.finding.to_dict(),
            "reason": self.reason,
            "replay": self.replay,
            "lacking": self.lacking,
        }
        return {
            "name": self.name,
            "rung": self.rung,
            "subject": self.subject,
            "status": str(self.status),
            "seconds": round(self.seconds, 3),
            **{name: value for name, value in optional.items() if value is not None},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the result that `to_dict` wrote.

        Reports of earlier versions name the check alone; its rung is then that of today's check.
        """
        name, check = values["name"], find_check(values["name"])
        return cls(
            name,
            values.get("rung", check.rung if check else name.partition("/")[0]),
            values.get("subject", check.subject if check else name.partition("/")[2]),
            Status(values["status"]),
            seconds=values.get("seconds", 0.0),
            drawn=values.get("drawn", 0),
            finding=Finding.from_dict(values["finding"]) if "finding" in values else None,
            reason=values.get("reason"),
            replay=values.get("replay"),
            lacking=values.get("lacking"),
        )
