"""Rulings on the published claims, each with its interval and its reason.

A claim is judged on the stored runs of its study at tier full, at a level of 95%; `rule` then
controls the false-discovery rate of all figures tested at 5% (Benjamini & Hochberg 1995). The error
budget of the gates is not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scipy import stats

from dlsys_bench.errors import UserError
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings import comparisons, qualitative, single
from dlsys_bench.notebooks.rulings.contradictions import confront
from dlsys_bench.notebooks.rulings.ruling import LEVEL, Claim, Judged, Ruling
from dlsys_bench.notebooks.rulings.runs import ENGINES, Runs
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.text import describe, one_line

ClaimRule = Callable[[Claim, Runs], Judged]
"""Judges a claim on runs."""

KINDS: dict[str, ClaimRule] = {
    "band": single.band,
    "trajectory": single.trajectory,
    "bound": single.bound,
    "exact": single.exact,
    "speed": single.speed,
    "unrecoverable": single.unrecoverable,
    "ordering": comparisons.ordering,
    "equivalence": comparisons.equivalence,
    "argmin": comparisons.argmin,
    "monotone": comparisons.monotone,
    "qualitative": qualitative.violins,
}
"""The rule of each kind of claim."""

SPECIAL: dict[str, ClaimRule] = {"nb4.eggholder": comparisons.deeper}
"""The rules of single claims, by their id, that replace the rule of the kind."""


def judge(claim: Claim, runs: Runs) -> Judged:
    """The ruling on one claim, taken alone."""
    ruled = SPECIAL.get(claim["id"], KINDS[claim["kind"]])
    try:
        return ruled(claim, runs)
    except UserError:
        raise
    except Exception as error:
        # The figures in a file of runs need not have the structure that their study gives them.
        reason = f"its runs have figures that cannot be tested: {one_line(describe(error))}"
        return Judged(claim, Ruling.NOT_TESTABLE, reason)


def rule(
    study: str | None = None, extra: Sequence[Result] = (), engines: Sequence[str] = ENGINES
) -> list[Judged]:
    """Judge every claim, or those of a study or group, by the runs of some engines.

    The false-discovery rate is controlled over all sound figures: one that lies outside its
    interval without being significant among all of them is undecided.
    """
    runs = Runs(extra, engines)
    judged = [_sound(judge(claim, runs)) for claim in claims()]
    tested = [
        n
        for n, one in enumerate(judged)
        if one.claim["kind"] == "band" and one.p is not None and _is_sound(one)
    ]
    adjusted = stats.false_discovery_control([judged[n].p for n in tested]) if tested else []
    for n, q in zip(tested, adjusted, strict=True):
        judged[n] = replace(judged[n], q=float(q))
        if judged[n].ruling is Ruling.NOT_REPRODUCED and q > 1 - LEVEL:
            remark = f"not significant among {len(tested)} figures tested (q {q:.2g})"
            reason = f"{judged[n].reason}; {remark}"
            judged[n] = replace(judged[n], ruling=Ruling.UNDECIDED, reason=reason)
    chosen = {claim["id"] for claim in claims_of(study)}
    return [one for one in confront(judged) if one.claim["id"] in chosen]


def claims_of(study: str | None) -> list[Claim]:
    """The claims on a study or a group of studies, or all."""
    return [
        claim
        for claim in claims()
        if study in (None, claim["study"], studies()[claim["study"]].group)
    ]


def _is_sound(one: Judged) -> bool:
    return bool(one.claim.get("sound", True))


def _sound(one: Judged) -> Judged:
    """Rule an unsound figure UNSOUND whatever its protocol gives here, and append the caveat of a
    sound one to the reason."""
    caveat = one.claim.get("caveat")
    if not _is_sound(one) and one.ruling is not Ruling.UNMEASURED:
        reason = (
            f"{caveat or one.claim.get('note')}; by its own protocol {one.ruling}: {one.reason}"
        )
        return replace(one, ruling=Ruling.UNSOUND, reason=reason)
    return replace(one, reason=f"{one.reason}; caveat: {caveat}") if caveat else one


__all__ = ["KINDS", "Claim", "Judged", "Ruling", "Runs", "claims_of", "judge", "rule"]
