"""Claims, and the rulings on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.text import describe, one_line

Claim = Mapping[str, Any]
"""A published claim. It has an "id", the "study" that it is about, a "kind", and a "category" of
CATEGORIES, and beside them what its kind needs."""

CATEGORIES = ("counts", "measurements", "statements")
"""The categories of claims, whose rulings are counted separately."""


class Ruling(StrEnum):
    """The result of testing a claim. UNSOUND: the published figure does not support the claim,
    whether it is reproduced or not. NOT_PRINTED: the source does not print the figure, which
    follows from the layers that it lists."""

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

    `interval` (95%) and `p` are those of the test that `reason` names. `q` is the p-value adjusted
    for the other claims that are judged with this one.
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
        return str(self.claim["category"])

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


def attempt(claim: Claim, judge: Callable[[], Judged]) -> Judged:
    """Return the ruling that `judge` makes; NOT_TESTABLE if it fails.

    The figures in a file of runs need not have the structure that their study gives them. A
    UserError is raised.
    """
    try:
        return judge()
    except UserError:
        raise
    except Exception as error:
        reason = f"its runs have figures that cannot be tested: {one_line(describe(error))}"
        return Judged(claim, Ruling.NOT_TESTABLE, reason)


def unmeasured(
    claim: Claim, runs: int, tier: str = "full", seeds: int = 5, dataset: str = ""
) -> Judged:
    """The ruling for a claim that has too few stored runs. `dataset` is by default the study's."""
    options = f"--dataset {dataset} " if dataset else ""
    command = f"dlsys-bench run {claim['study']} {options}--tier {tier} --reference --seeds {seeds}"
    reason = f"{command} stores the runs that it takes"
    return Judged(claim, Ruling.UNMEASURED, reason, runs=runs)
