"""Rulings on the published claims, each with its interval and its reason.

A claim is judged on the stored runs of its study at tier full, at a level of 95%. `rule` then
judges the figures of one published run together (Simes 1986), controls the false-discovery rate of
the runs at 5% (Benjamini & Hochberg 1995), and corrects the figures within a run (Holm 1979). The
error budget of the gates is not affected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import scipy

from dlsys_bench.errors import count_of
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings import comparisons, qualitative, single
from dlsys_bench.notebooks.rulings.contradictions import confront
from dlsys_bench.notebooks.rulings.runs import Runs
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.claims.claim_set import ClaimSet
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling, attempt
from dlsys_bench.verdicts.claims.stored_runs import ENGINES
from dlsys_bench.verdicts.difference import LEVEL, holm

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
    return attempt(claim, lambda: ruled(claim, runs))


def rule(extra: Sequence[Result] = (), engines: Sequence[str] = ENGINES) -> list[Judged]:
    """Judge every claim by the runs of some engines.

    A sound figure that lies outside its interval is undecided unless it is significant among the
    figures of its run, and its run among all runs.
    """
    runs = Runs(extra, engines)
    judged = [_sound(judge(claim, runs)) for claim in claims()]
    _judge_together(judged)
    return confront(judged)


def _judge_together(judged: list[Judged]) -> None:
    """Adjust the p-values of the sound figures, and the rulings that depend on them."""
    by_run: dict[tuple[str, ...], list[int]] = {}
    for n, one in enumerate(judged):
        if one.claim["kind"] == "band" and one.p is not None and _is_sound(one):
            run = tuple(one.claim[name] for name in ("source", "study", "arm"))
            by_run.setdefault(run, []).append(n)
    together = {run: _simes([judged[n].p or 0.0 for n in of]) for run, of in by_run.items()}
    of_runs = scipy.stats.false_discovery_control(list(together.values())) if together else []
    for figures, of_run in zip(by_run.values(), of_runs, strict=True):
        adjusted = holm([judged[n].p for n in figures])
        for n, p in zip(figures, adjusted, strict=True):
            q = max(float(of_run), p or 0.0)
            where = f"{count_of(len(figures), 'figure')} of its run and {len(by_run)} runs"
            judged[n] = _with_others(replace(judged[n], q=q), float(of_run), where)


def _with_others(one: Judged, of_run: float, where: str) -> Judged:
    """Return a figure with the ruling that its whole run allows."""
    if one.ruling is Ruling.NOT_REPRODUCED and (one.q or 0.0) > 1 - LEVEL:
        reason = f"{one.reason}; not significant among {where} (q {one.q:.2g})"
        return replace(one, ruling=Ruling.UNDECIDED, reason=reason)
    if one.ruling is Ruling.REPRODUCED and of_run <= 1 - LEVEL:
        remark = f"its run as a whole is not reproduced (q {of_run:.2g})"
        return replace(one, reason=f"{one.reason}; {remark}")
    return one


def _simes(p_values: Sequence[float]) -> float:
    """Return the p-value of all figures of a run together."""
    count = len(p_values)
    return min(count * p / rank for rank, p in enumerate(sorted(p_values), start=1))


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


CLAIM_SET = ClaimSet("the notebooks", claims, rule)
"""The claims of the notebooks, which their studies name."""

__all__ = ["CLAIM_SET", "KINDS", "Claim", "Judged", "Ruling", "Runs", "judge", "rule"]
