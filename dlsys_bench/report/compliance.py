"""A compliance report as tables, as an HTML page and as a badge."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlsys_bench.conformance.causes import Cause
from dlsys_bench.conformance.check import RUNGS
from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import Status
from dlsys_bench.errors import count_of
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps

STATUSES = (Status.PASSED, Status.FAILED, Status.TIMEOUT, Status.DECLARED, Status.NOT_REACHED)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ report.engine }}: compliance</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #1b1b1b }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left;
  vertical-align: top }
td.number { text-align: right } code { background: #f2f2f2; padding: .1rem .2rem }
.passed { color: #14692f } .failed { color: #a11212; font-weight: bold }
.declared, .timed-out { color: #7a5b00 } .not-reached { color: #666 }
</style></head><body>
<h1>{{ report.engine }}: {{ headline }}</h1>
<p>{{ report.summary() }}, on {{ report.device }}, seed {{ report.seed }},
{{ "%.0f" | format(report.seconds) }} s. {{ versions }}</p>
<table><thead><tr><th>rung</th>{% for status in statuses %}<th>{{ status }}</th>{% endfor
%}</tr></thead><tbody>
{% for rung in rungs %}<tr><td><a href="#{{ rung }}">{{ rung }}</a></td>{% for status in statuses
%}<td class="number">{{ report.counts(rung)[status] or "" }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
{% for rung in rungs %}<h2 id="{{ rung }}">{{ rung }}</h2><table><tbody>
{% for result in report.results if result.rung == rung %}<tr><td>{{ result.subject }}</td>
<td class="{{ result.status | replace(" ", "-") }}">{{ result.status }}</td>
<td>{{ result.finding or result.reason or "" }}
{% if result.replay %}<br><code>{{ result.replay }}</code>{% endif %}</td></tr>
{% endfor %}</tbody></table>
{% endfor %}</body></html>
"""

BADGE = """<svg xmlns="http://www.w3.org/2000/svg" width="{{ left + right }}" height="20" \
role="img" aria-label="{{ label }}: {{ message }}">
<title>{{ label }}: {{ message }}</title>
<rect width="{{ left }}" height="20" fill="#444"/>
<rect x="{{ left }}" width="{{ right }}" height="20" fill="{{ colour }}"/>
<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle">
<text x="{{ left / 2 }}" y="14">{{ label }}</text>
<text x="{{ left + right / 2 }}" y="14">{{ message }}</text></g></svg>
"""

LABEL = "dlsys_bench"
"""The left side of the badge."""


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


def causes_report(causes: Sequence[Cause]) -> Iterator[str]:
    """Yield a paragraph for each probable cause: its root, what follows from it, and a snippet."""
    for number, cause in enumerate(causes, start=1):
        root, finding = cause.root, cause.root.finding
        yield f"\nProbable cause {number} of {len(causes)}: {root.message()}"
        by_evidence: dict[str, list[str]] = {}
        for result, evidence in cause.consequences:
            by_evidence.setdefault(evidence, []).append(result.name)
        for evidence, names in by_evidence.items():
            yield f"  {count_of(len(names), 'consequence')} ({evidence}): {', '.join(names)}"
        yield f"  explained by: dlsys-bench conform --explain {shlex.quote(root.name)}"
        if finding is not None and finding.snippet:
            yield "  without an engine:\n" + textwrap.indent(finding.snippet, "    ")


def write_compliance(report: Compliance, folder: Path) -> list[Path]:
    """Write `NAME.json`, `NAME.html`, `NAME.md` and `NAME.svg` for an engine. Returns the paths."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True)
    versions = report.provenance.get("versions", {})
    page = environment.from_string(PAGE).render(
        report=report,
        headline=_headline(report),
        rungs=RUNGS,
        statuses=_statuses(report),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
    )
    message = _message(report)
    badge = environment.from_string(BADGE).render(
        label=LABEL,
        message=message,
        left=7 * len(LABEL) + 12,
        right=7 * len(message) + 12,
        colour=_colour(report),
    )
    declared = declared_table(report)
    texts = {
        "json": dumps(report.to_dict(), indent=1) + "\n",
        "md": "\n".join(t.markdown() for t in (compliance_table(report), declared) if t),
        "html": page,
        "svg": badge,
    }
    folder.mkdir(parents=True, exist_ok=True)
    stem = report.engine.replace(":", ".").replace("/", ".")
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def _statuses(report: Compliance) -> list[Status]:
    """Return the statuses that have a column: the usual ones, and timeouts if there are any."""
    counts = report.counts()
    return [status for status in STATUSES if status is not Status.TIMEOUT or counts[status]]


def _headline(report: Compliance) -> str:
    if report.inconclusive:
        return "inconclusive"
    if not report.conforms:
        return "does not conform"
    return "conforms in the selected checks" if report.partial else "conforms"


def _colour(report: Compliance) -> str:
    """Return the colour of the right side of the badge."""
    if report.inconclusive or (report.conforms and report.partial):
        return "#666"
    return "#14692f" if report.conforms else "#a11212"


def _message(report: Compliance) -> str:
    """Return the right side of the badge."""
    counts = report.counts()
    if report.first_broken is not None:
        return f"breaks at {report.first_broken.rung}"
    if report.inconclusive:
        return "timed out"
    if not report.conforms:
        return "broken"
    total = len(report.expected) if report.partial else counts[Status.PASSED]
    return f"{counts[Status.PASSED]} of {total}" + " checked" * report.partial
