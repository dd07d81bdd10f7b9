"""A compliance report as files: JSON, Markdown, an HTML page, and a badge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import Status
from dlsys_bench.extras import optional_module
from dlsys_bench.report.compliance import compliance_table, declared_table, headline
from dlsys_bench.report.html.conformance import compliance_sections
from dlsys_bench.report.html.page import Page, render
from dlsys_bench.strict_json import dumps

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


def compliance_page(report: Compliance, changed: Sequence[tuple[str, str, str]] = ()) -> Page:
    """Return the page about the climb of an engine, and what has changed since an earlier one."""
    summary = (f"{report.summary()}, on {report.device}, seed {report.seed}.",)
    sections = compliance_sections(report, changed)
    return Page(report.engine, headline(report), summary, sections, report.provenance)


def write_compliance(report: Compliance, folder: Path) -> list[Path]:
    """Write `NAME.json`, `NAME.html`, `NAME.md` and `NAME.svg` for an engine. Returns the paths."""
    environment = optional_module("report", "jinja2").Environment(autoescape=True)
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
        "html": render(compliance_page(report)),
        "svg": badge,
    }
    folder.mkdir(parents=True, exist_ok=True)
    stem = report.engine.replace(":", ".").replace("/", ".")
    paths = []
    for suffix, text in texts.items():
        paths.append(folder / f"{stem}.{suffix}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


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
