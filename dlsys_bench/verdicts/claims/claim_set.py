"""The claims of a package, as `Study.claims` names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import UserError, type_of
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim, Judged

Rule = Callable[[Sequence[Result], Sequence[str]], Sequence[Judged]]
"""Rules on every claim of a set, given runs beside the stored ones, and the engines whose runs
count."""


@dataclass(frozen=True)
class ClaimSet:
    """Claims that are judged together: the title of their source, the claims, and their rule."""

    title: str
    claims: Callable[[], Sequence[Claim]]
    rule: Rule

    def claims_of(self, study: str | None) -> list[Claim]:
        """The claims on a study or a group of studies, or all."""
        return [claim for claim in self.claims() if concerns(claim["study"], study)]

    def rulings_on(
        self, study: str | None, extra: Sequence[Result], engines: Sequence[str]
    ) -> list[Judged]:
        """The rulings on a study or a group, or all; each is judged with the whole set."""
        return [one for one in self.rule(extra, engines) if concerns(one.claim["study"], study)]


def concerns(study: str, asked: str | None) -> bool:
    """Return True if a study is the one that is asked for, or in that group; None asks for all."""
    known = studies().get(study)
    return asked in (None, study, known.group if known else study)


def claim_sets(asked: str | None = None) -> list[ClaimSet]:
    """The sets of claims that the studies of a name or a group have, each once; None for all.

    Raises UserError if one cannot be loaded.
    """
    targets = dict.fromkeys(
        study.claims for study in studies().values() if study.claims and concerns(study.name, asked)
    )
    return [load_claim_set(target) for target in targets]


def load_claim_set(target: str) -> ClaimSet:
    """Return the set that "package.module:NAME" names. Raises UserError if it is none."""
    found = load_attribute(target, "claims")
    if not isinstance(found, ClaimSet):
        raise UserError(f"the claims {target!r} are {type_of(found)}, not a ClaimSet")
    return found
