"""A compliance report as tables."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence

from dlsys_bench.conformance.causes import Cause
from dlsys_bench.conformance.check import RUNGS
from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import Status
from dlsys_bench.errors import count_of
from dlsys_bench.report.display import PAGE
from dlsys_bench.report.layout import wrapped
from dlsys_bench.report.table import Table

STATUSES = (Status.PASSED, Status.FAILED, Status.TIMEOUT, Status.DECLARED, Status.NOT_REACHED)


def compliance_table(report: Compliance) -> Table:
    """Return a table with one row per rung: checks by status, and the first finding."""
    rows, statuses = [], _statuses(report)
    for rung in RUNGS:
        counts = report.counts(rung)
        if not counts:
            continue
        failures = [r for r in report.results if r.rung == rung and r.finding is not None]
        finding = ""
        if failures:
            first = failures[0]
            finding = f"{first.subject}: {first.finding and first.finding.summary}"
        rows.append((rung, *(str(counts[status] or "") for status in statuses), finding))
    heads = ("rung", *(f">{status}" for status in statuses), "first finding")
    return Table(report.summary(), heads, rows)


def declared_table(report: Compliance) -> Table | None:
    """Return a table of what the engine declares, one row per reason; None if it declares nothing.

    Checks that passed with a declared lower precision are listed too.
    """
    checks: dict[tuple[Status, str], list[str]] = {}
    for result in report.results:
        if result.reason and result.status in (Status.DECLARED, Status.PASSED):
            checks.setdefault((result.status, result.reason), []).append(result.name)
    rows = [(reason, str(status), ", ".join(names)) for (status, reason), names in checks.items()]
    if not rows:
        return None
    return Table(f"Declared by {report.engine}", ("reason", "status", "checks"), rows)


NAMED = 8
"""The most consequences that are named in text. The JSON and the page name all."""


def causes_report(causes: Sequence[Cause]) -> Iterator[str]:
    """Yield a paragraph for each probable cause: its root, what follows from it, and a snippet."""
    for number, cause in enumerate(causes, start=1):
        root, finding = cause.root, cause.root.finding
        yield f"\nProbable cause {number} of {len(causes)}: {root.name}"
        if finding is not None:
            yield from _paragraph("  ", finding.summary)
        if finding is not None and finding.example:
            yield from _paragraph("  example: ", finding.example)
        if root.replay:
            yield f"  replay: {root.replay}"
        by_evidence: dict[str, list[str]] = {}
        for result, evidence in cause.consequences:
            by_evidence.setdefault(evidence, []).append(result.name)
        for evidence, names in by_evidence.items():
            yield f"  {count_of(len(names), 'consequence')} ({evidence}):"
            rest = f", and {len(names) - NAMED} others" if len(names) > NAMED else ""
            yield from _paragraph("    ", ", ".join(names[:NAMED]) + rest)
        yield f"  explained by: dlsys-bench conform --explain {shlex.quote(root.name)}"
        if finding is not None and finding.snippet:
            yield "  without an engine:\n" + textwrap.indent(finding.snippet, "    ")


def _paragraph(head: str, text: str) -> list[str]:
    return wrapped(head, text, PAGE)


def _statuses(report: Compliance) -> list[Status]:
    """Return the statuses that have a column: the usual ones, and timeouts if there are any."""
    counts = report.counts()
    return [status for status in STATUSES if status is not Status.TIMEOUT or counts[status]]


def headline(report: Compliance) -> str:
    """Return the verdict on an engine in a few words."""
    if report.inconclusive:
        return "inconclusive"
    if not report.conforms:
        return "does not conform"
    return "conforms in the selected checks" if report.partial else "conforms"
