"""What became of a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from dlsys_bench.conformance.finding import Finding


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    DECLARED = "declared"
    """The engine declares that it cannot, with a reason."""
    NOT_REACHED = "not reached"
    """A rung below broke."""


@dataclass(frozen=True)
class CheckResult:
    """One check: its status, what was found where it failed, why where it did not run, and the line
    that replays it."""

    name: str
    status: Status
    seconds: float = 0.0
    drawn: int = 0
    finding: Finding | None = None
    reason: str | None = None
    replay: str | None = None

    @property
    def rung(self) -> str:
        return self.name.partition("/")[0]

    @property
    def subject(self) -> str:
        return self.name.partition("/")[2]

    def message(self) -> str:
        """The finding with its check and its replay, or the reason."""
        if self.finding is None:
            return f"{self.name}: {self.status}" + (f": {self.reason}" if self.reason else "")
        return f"{self.name}: {self.finding}" + (
            f"\n  replay: {self.replay}" if self.replay else ""
        )

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "name": self.name,
            "status": str(self.status),
            "seconds": round(self.seconds, 3),
        }
        if self.drawn:
            values["drawn"] = self.drawn
        if self.finding:
            values["finding"] = self.finding.to_dict()
        return values | {
            name: value
            for name in ("reason", "replay")
            if (value := getattr(self, name)) is not None
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        finding = Finding.from_dict(values["finding"]) if "finding" in values else None
        return cls(
            values["name"],
            Status(values["status"]),
            values.get("seconds", 0.0),
            values.get("drawn", 0),
            finding,
            values.get("reason"),
            values.get("replay"),
        )
