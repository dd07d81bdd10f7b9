"""The report of an engine's climb: counts by rung, the first failure, changes between reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.strict_json import loads

assert checks  # Importing them registers them, which reading a report needs.

SCHEMA = 1


@dataclass(frozen=True)
class Compliance:
    """The results of the checks of one engine.

    `expected` holds the names of all checks, `selected` those that were requested, if not all.
    """

    engine: str
    device: str
    seed: int
    results: Sequence[CheckResult]
    expected: Sequence[str] = field(default_factory=lambda: list(CHECKS))
    selected: Sequence[str] | None = None
    seconds: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def counts(self, rung: str | None = None) -> Counter[Status]:
        """Return the number of checks with each status, on one rung or on all."""
        return Counter(result.status for result in self.results if rung in (None, result.rung))

    @property
    def first_broken(self) -> CheckResult | None:
        """The first check that failed, on the lowest rung with a failure."""
        return next((result for result in self.results if result.status is Status.FAILED), None)

    @property
    def missing(self) -> list[str]:
        """The checks of which there is no result."""
        known = {result.name for result in self.results}
        return [name for name in (self.selected or self.expected) if name not in known]

    @property
    def partial(self) -> bool:
        """True if only some checks were requested: then the engine as a whole is not judged."""
        return self.selected is not None and len(self.selected) < len(self.expected)

    @property
    def conforms(self) -> bool:
        """True if every requested check passed, except those that the engine declares it lacks."""
        counts = self.counts()
        return (
            not (counts.keys() & {Status.FAILED, Status.TIMEOUT, Status.NOT_REACHED})
            and not self.missing
            and counts[Status.PASSED] > 0
        )

    @property
    def inconclusive(self) -> bool:
        """True if no check failed, but one was ended at its time limit."""
        counts = self.counts()
        return counts[Status.TIMEOUT] > 0 and not counts[Status.FAILED]

    def summary(self) -> str:
        """Return the verdict and the counts in one line."""
        counts = self.counts()
        numbers = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
        verdict = "conforms" if self.conforms else "does not conform"
        if self.inconclusive:
            verdict = "is inconclusive"
        if self.partial and self.conforms:
            verdict = "conforms in the selected checks"
        missing = f", {len(self.missing)} did not run" if self.missing else ""
        checks = count_of(len(self.expected), "check")
        return f"{self.engine} {verdict}: {numbers}{missing} of {checks}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        first = self.first_broken
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "device": self.device,
            "seed": self.seed,
            "conforms": self.conforms,
            "inconclusive": self.inconclusive,
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
        """Return the report in a file. Raises UserError if it is not one."""
        try:
            values = loads(path.read_text(encoding="utf-8"))
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            detail = f": it has no {error}" if isinstance(error, KeyError) else ""
            raise UserError(
                f"{path} is not a report of `dlsys-bench conform --json` or --output{detail}"
            ) from error


def changes(before: Compliance, after: Compliance) -> list[tuple[str, str, str]]:
    """Return the name of each check whose status changed, with both statuses, rung by rung."""
    old, new = ({result.name: result for result in report.results} for report in (before, after))
    order = {rung: place for place, rung in enumerate(RUNGS)}
    names = sorted((old | new).items(), key=lambda item: (order.get(item[1].rung, 99), item[0]))
    rows = [(name, _status(old, name), _status(new, name)) for name, _ in names]
    return [row for row in rows if row[1] != row[2]]


def _status(results: Mapping[str, CheckResult], name: str) -> str:
    return str(results[name].status) if name in results else "absent"
