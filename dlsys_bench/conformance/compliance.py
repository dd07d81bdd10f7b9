"""What an engine's climb comes to: counts by rung, the first rung that broke, and what changed
since another report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.errors import UserError

SCHEMA = 1


@dataclass(frozen=True)
class Compliance:
    """The result of every check of one engine. `expected` are the checks that there are, by name;
    `selected` those that were asked for, if not all."""

    engine: str
    device: str
    seed: int
    results: Sequence[CheckResult]
    expected: Sequence[str] = field(default_factory=lambda: list(CHECKS))
    selected: Sequence[str] | None = None
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def counts(self, rung: str | None = None) -> Counter[Status]:
        """How many checks, of a rung or of all, ended how."""
        return Counter(result.status for result in self.results if rung in (None, result.rung))

    @property
    def first_broken(self) -> CheckResult | None:
        """The first check that failed, on the lowest rung that broke."""
        return next((result for result in self.results if result.status is Status.FAILED), None)

    @property
    def missing(self) -> list[str]:
        """Checks that neither ran nor are declared, and of which nothing says why."""
        known = {result.name for result in self.results}
        return [name for name in (self.selected or self.expected) if name not in known]

    @property
    def partial(self) -> bool:
        """Whether only some checks were asked for: then nothing is said of the engine as a
        whole."""
        return self.selected is not None and len(self.selected) < len(self.expected)

    @property
    def conforms(self) -> bool:
        """Whether everything that the engine does not declare was looked at, and passed."""
        counts = self.counts()
        return (
            not (counts[Status.FAILED] or counts[Status.NOT_REACHED] or self.missing)
            and counts[Status.PASSED] > 0
        )

    def summary(self) -> str:
        """One line."""
        counts = self.counts()
        told = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        verdict = "conforms" if self.conforms else "does not conform"
        if self.partial and self.conforms:
            verdict = "conforms as far as was asked"
        missing = f", {len(self.missing)} did not run" if self.missing else ""
        return f"{self.engine} {verdict}: {told}{missing} of {len(self.expected)} checks"

    def to_dict(self) -> dict[str, Any]:
        first = self.first_broken
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "device": self.device,
            "seed": self.seed,
            "conforms": self.conforms,
            "partial": self.partial,
            "seconds": round(self.seconds, 1),
            "counts": {str(status): self.counts()[status] for status in Status},
            "first_broken": first and first.name,
            "missing": self.missing,
            "expected": list(self.expected),
            "selected": self.selected and list(self.selected),
            "outcomes": [result.to_dict() for result in self.results],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """The report in a file. Errors: UserError where it is not one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            results = [CheckResult.from_dict(result) for result in values["outcomes"]]
            return cls(
                values["engine"],
                values["device"],
                values["seed"],
                results,
                values["expected"],
                values["selected"],
                values["seconds"],
                values["provenance"],
            )
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is no report of `dlsys-bench conform --output`: {error!r}"
            ) from error


def changes(before: Compliance, after: Compliance) -> list[tuple[str, str, str]]:
    """What became of each check that ended differently: its name, then, now."""
    then, now = (
        {result.name: str(result.status) for result in report.results} for report in (before, after)
    )
    order = {rung: place for place, rung in enumerate(RUNGS)}
    names = sorted(
        then.keys() | now.keys(), key=lambda name: (order.get(name.partition("/")[0], 99), name)
    )
    rows = [(name, then.get(name, "not there"), now.get(name, "not there")) for name in names]
    return [row for row in rows if row[1] != row[2]]
