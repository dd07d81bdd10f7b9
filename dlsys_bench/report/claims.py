"""The rulings on claims as tables, for the terminal and for reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dlsys_bench.errors import count_of
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Columns, Table
from dlsys_bench.runs.result import Result
from dlsys_bench.verdicts.claims.claim_set import load_claim_set
from dlsys_bench.verdicts.claims.ruling import CATEGORIES, Claim, Judged, published
from dlsys_bench.verdicts.claims.stored_runs import ENGINES


def claims_table(rulings: Sequence[Judged], title: str = "Claims") -> Table:
    """One row per claim: published, measured, the interval that decides, the ruling and its
    reason."""
    rows = [
        (
            one.claim["id"],
            one.published,
            one.measured or NONE,
            f"[{one.interval[0]:.4f}, {one.interval[1]:.4f}]" if one.interval else NONE,
            str(one.runs) if one.runs else NONE,
            one.ruling.value,
            one.reason,
        )
        for one in rulings
    ]
    return Table(
        title, ("claim", "published", "measured", "95% interval", ">runs", "ruling", "reason"), rows
    )


def category_tables(title: str, rulings: Sequence[Judged]) -> list[Table]:
    """One table per category of the claims of a set, with the numbers of its rulings above it."""
    found = {name: [one for one in rulings if one.category == name] for name in CATEGORIES}
    tables = []
    for name, some in found.items():
        counts = Counter(one.ruling.value for one in some)
        summary = ", ".join(f"{count} {ruling}" for ruling, count in counts.most_common())
        heading = f"{len(some)} {name} of {title}: {summary}"
        tables += [claims_table(some, heading)] * bool(some)
    return tables


def published_table(title: str, claims: Sequence[Claim]) -> Table:
    """One row per claim of a set: its kind, the published value or text, and its caveat."""
    columns: Columns[Claim] = {
        "claim": lambda claim: claim["id"],
        "kind": lambda claim: claim["kind"],
        "published": published,
        "source": lambda claim: claim["source"],
        "sound": lambda claim: "yes" if claim.get("sound", True) else "no",
        "caveat": lambda claim: claim.get("caveat") or "",
    }
    return Table.of(f"{count_of(len(claims), 'claim')} of {title}", columns, claims)


def tables_of_studies(target: str, results: Sequence[Result]) -> Mapping[str, Sequence[Table]]:
    """For each study of a set of claims, which "package.module:NAME" names, a table of its claims,
    judged on the stored runs and on `results`."""
    by_study: dict[str, list[Judged]] = {}
    for one in load_claim_set(target).rule(results, ENGINES):
        by_study.setdefault(one.claim["study"], []).append(one)
    title = "What was published, and what is measured here"
    return {study: [claims_table(rulings, title)] for study, rulings in by_study.items()}
