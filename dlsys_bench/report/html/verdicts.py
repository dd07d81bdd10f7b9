"""The sections about verdicts: every seed beside its reference runs, and the error budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import isfinite

from dlsys_bench.errors import count_of
from dlsys_bench.report.html.page import Section, Sheet
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.tables import VERDICT_COLUMNS
from dlsys_bench.runs.dependencies import summary
from dlsys_bench.verdicts.budget import SESSION_SHARE
from dlsys_bench.verdicts.session import SessionVerdict
from dlsys_bench.verdicts.verdict import Verdict

BAND = 0.02
"""The probability that a new healthy run lies outside of the band that is drawn."""

DRAWN = "new runs"


def verdict_sections(
    verdicts: Sequence[Verdict],
    sessions: Sequence[SessionVerdict],
    alpha: float,
    beta: float,
) -> list[Section]:
    """Return the sections about gates that share a false-alarm rate."""
    text = (
        "Each dot is a new run. The band holds 98% of healthy runs, under a normal distribution of "
        "the reference runs; the gate itself compares ranks and assumes no distribution.",
    )
    sheets = [_sheet(metric, group) for metric, group in _by_metric(verdicts).items()]
    found = [
        Section(
            "Verdicts",
            text,
            sheets,
            commands=[(verdict.key.label, verdict.replay) for verdict in verdicts],
        ),
        _reasons(verdicts),
        _budget(verdicts, sessions, alpha, beta),
    ]
    accepts = [(verdict.key.label, verdict.accept) for verdict in verdicts if verdict.accept]
    if accepts:
        found.append(Section("If the change is intended", commands=accepts))
    return found


def _by_metric(verdicts: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    found = defaultdict(list)
    for verdict in verdicts:
        found[verdict.metric].append(verdict)
    return found


def _sheet(metric: str, verdicts: Sequence[Verdict]) -> Sheet:
    strips = [_strip(verdict) for verdict in verdicts]
    scale = scale_of(strips)
    rows = []
    for verdict, strip in zip(verdicts, strips, strict=True):
        cells = [cell(verdict) for cell in VERDICT_COLUMNS.values()]
        rows.append((*cells[:-1], draw(strip, scale), cells[-1]))
    heads = [*VERDICT_COLUMNS]
    return Sheet(metric, (*heads[:-1], DRAWN, heads[-1]), rows, axis(scale), DRAWN)


def _strip(verdict: Verdict) -> Strip:
    band = verdict.band
    dots = [
        (f"seed {seed}", value) for seed, value in zip(verdict.seeds, verdict.values, strict=False)
    ]
    known = [value for value in verdict.values if isfinite(value)]
    held = f", reference {band.mean:.4f} ± {band.std:.4f}" if band else ""
    values = ", ".join(f"{value:.4f}" for value in known)
    return Strip(
        f"{verdict.name}: {values or 'no run finished'}{held}",
        dots,
        band=band.interval(BAND) if band and band.n > 1 else None,
    )


def _reasons(verdicts: Sequence[Verdict]) -> Section:
    """What each verdict is based on, and what has changed since the reference runs."""
    columns = ("arm", "engine", "verdict", "reason", "changed since the reference runs")
    rows = [
        (
            one.name,
            one.key.engine,
            one.outcome.value,
            one.reason,
            NONE
            if one.changes is None
            else summary(list(one.changes)) or "nothing that is recorded",
        )
        for one in verdicts
    ]
    return Section("Reasons and changes", sheets=[Sheet("Reasons", columns, rows)])


def _budget(
    verdicts: Sequence[Verdict],
    sessions: Sequence[SessionVerdict],
    alpha: float,
    beta: float,
) -> Section:
    """The division of the false-alarm rate, and what each gate could have found."""
    gates = len(verdicts)
    shared = f"{SESSION_SHARE:.0%} of it for the verdict over all arms, the rest divided equally"
    text = [
        f"Healthy training fails any of {count_of(gates, 'gate')} with a probability of at most "
        f"{alpha:g}" + (f" ({shared})." if gates > 1 else "."),
        f"A shift of one MDE passes a gate with a probability of at most {beta:g}.",
        *(f"{session.outcome}: {session.message()}" for session in sessions),
    ]
    columns = ("arm", "engine", ">alpha", ">p-value", ">MDE", ">maximum of seeds", ">seeds")
    rows = [
        (
            one.name,
            one.key.engine,
            NONE if one.alpha is None else f"{one.alpha:.2e}",
            NONE if one.p_value is None else f"{one.p_value:.2e}",
            f"{one.smallest_shift:.4g}"
            if one.smallest_shift is not None and isfinite(one.smallest_shift)
            else NONE,
            NONE if one.max_seeds is None else str(one.max_seeds),
            str(len(one.seeds)),
        )
        for one in verdicts
    ]
    return Section("Error budget", text, [Sheet("Error rates of each gate", columns, rows)])
