"""Each published figure against what is measured here: a ruling of its own, with its interval and its reason.

A claim is judged on the stored runs of its study at tier full, at 95%; `rule` then holds the false-discovery rate of
the figures that were tested to 5% (Benjamini & Hochberg 1995). None of this touches the gate's budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from scipy import stats

from dlsys_bench.claims import claims
from dlsys_bench.result import Result
from dlsys_bench.verdict.claims import comparisons, qualitative, single
from dlsys_bench.verdict.claims.ruling import LEVEL, Claim, Judged, Ruling
from dlsys_bench.verdict.claims.runs import Runs

KINDS: dict[str, Callable[[Claim, Runs], Judged]] = {
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


def rule(study: str | None = None, extra: Sequence[Result] = ()) -> list[Judged]:
    """A ruling for each claim, or for those of a study or group. The false-discovery rate is that of all claims."""
    runs = Runs(extra)
    judged = [KINDS[claim["kind"]](claim, runs) for claim in claims()]
    tested = [place for place, one in enumerate(judged) if one.p is not None and one.claim["kind"] == "band"]
    if tested:
        adjusted = stats.false_discovery_control([judged[place].p for place in tested])
        for place, q in zip(tested, adjusted, strict=True):
            if judged[place].ruling is Ruling.NOT_REPRODUCED and q > 1 - LEVEL:
                why = f"{judged[place].reason}; of {len(tested)} claims tested so many lie as far out by chance"
                judged[place] = replace(judged[place], ruling=Ruling.REPRODUCED, reason=why)
    judged = [_soundness(one) for one in judged]
    return [one for one in judged if study in (None, one.claim["study"]) or one.claim["study"].startswith(f"{study}/")]


def _soundness(one: Judged) -> Judged:
    if one.claim.get("sound", True) or one.ruling is Ruling.UNMEASURED:
        return one
    why = one.claim.get("caveat") or one.claim.get("note")
    return replace(one, ruling=Ruling.UNSOUND, reason=f"{why}; by its own protocol {one.ruling}: {one.reason}")


__all__ = ["KINDS", "Claim", "Judged", "Ruling", "Runs", "rule"]
