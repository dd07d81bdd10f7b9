"""The rulings as tables, for the terminal and for reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dlsys_bench.notebooks.rulings import Claim, Judged, rule
from dlsys_bench.notebooks.rulings.ruling import CATEGORIES, published
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Columns, Table
from dlsys_bench.runs.result import Result


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


def category_tables(rulings: Sequence[Judged]) -> list[Table]:
    """One table per category of claims, with the numbers of its rulings in the title."""
    found = {name: [one for one in rulings if one.category == name] for name in CATEGORIES}
    tables = []
    for name, some in found.items():
        counts = Counter(one.ruling.value for one in some)
        summary = ", ".join(f"{count} {ruling}" for ruling, count in counts.most_common())
        tables += [claims_table(some, f"{len(some)} {name}: {summary}")] * bool(some)
    return tables


def published_table(claims: Sequence[Claim]) -> Table:
    """One row per claim: its kind, the published value or text, and its caveat."""
    columns: Columns[Claim] = {
        "claim": lambda claim: claim["id"],
        "kind": lambda claim: claim["kind"],
        "published": published,
        "sound": lambda claim: "yes" if claim.get("sound", True) else "no",
        "caveat": lambda claim: claim.get("caveat") or "",
    }
    return Table.of(f"{len(claims)} claims", columns, claims)


def appendix(results: Sequence[Result]) -> Mapping[str, Sequence[Table]]:
    """For each study, a table of its claims, judged on the stored runs and on `results`."""
    by_study: dict[str, list[Judged]] = {}
    for one in rule(extra=results):
        by_study.setdefault(one.claim["study"], []).append(one)
    title = "What was published, and what is measured here"
    return {study: [claims_table(rulings, title)] for study, rulings in by_study.items()}
