"""The detection matrix: the rung that detects each mutant, as a table and as JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from dlsys_bench.conformance.check import CHECKS, RUNGS
from dlsys_bench.conformance.trial import Options
from mutants.detection import Detection
from mutants.table import MUTANTS

TITLE = "# Broken engines and the checks that detect them"
LEGEND = (
    "Each row is an engine with one known mistake. · marks a rung that it passes, **X** the rung "
    "that "
    "detects it, (X) a rung other than the expected one; rungs after it did not run. Seconds are "
    "those "
    "of the whole climb."
)
LEGEND_SINGLE = (
    "Each row is an engine with one known mistake in float32 alone; no check ran in float64. The "
    "check that is recorded to detect the mistake ran first, and the others only if it passed: "
    "rungs below it are marked · and did not run. **X** marks the rung that detects the mistake, "
    "(X) a rung other than the expected one."
)


def summary(detections: Sequence[Detection]) -> str:
    """Return the counts in one line."""
    ran = [found for found in detections if found.reason is None]
    survivors = [found.name for found in ran if found.survived]
    blind = [found.name for found in ran if found.expected is None and found.check is None]
    elsewhere = [
        f"{found.name} (in {found.found})" for found in ran if found.found and not found.as_expected
    ]
    caught = len(ran) - len(survivors) - len(blind)
    parts = [f"{caught} of {caught + len(survivors)} mutants detected"]
    if len(ran) < len(detections):
        parts.append(f"{len(detections) - len(ran)} skipped")
    parts.append(f"survived: {', '.join(survivors)}" if survivors else "none survived")
    if blind:
        parts.append(f"known to survive: {', '.join(blind)}")
    if elsewhere:
        parts.append(f"detected on another rung than expected: {', '.join(elsewhere)}")
    return "; ".join(parts)


def _score(detections: Sequence[Detection]) -> list[str]:
    """Return a table of the mutants by the rung that detects them, with the running total."""
    expected = [found for found in detections if found.reason is None and found.expected]
    total, lines = 0, ["| rung | detected | so far |", "|---|--:|--:|"]
    for rung in RUNGS:
        count = sum(found.found == rung for found in expected)
        total += count
        lines.append(f"| {rung} | {count} | {total / max(len(expected), 1):.1%} |")
    return lines


def _cells(found: Detection) -> list[str]:
    if found.reason is not None:
        return [""] * len(RUNGS)
    reached = RUNGS.index(found.found) if found.found else len(RUNGS)
    mark = "**X**" if found.as_expected else "(X)"
    return [
        "·" if place < reached else mark if place == reached else "" for place in range(len(RUNGS))
    ]


def _message(found: Detection) -> str:
    survives = MUTANTS[found.name].survives
    return (
        f"not detected: {survives}"
        if survives and found.check is None
        else found.message.replace("|", "\\|")
    )


def markdown(detections: Sequence[Detection], options: Options, legend: str = LEGEND) -> str:
    """Return the matrix with one row per mutant and one column per rung."""
    drawn = f"seed {options.seed}, {options.examples} examples per search"
    lines = [TITLE, "", legend, "", f"{summary(detections)}. Checks ran with {drawn}.", ""]
    lines += [*_score(detections), ""]
    lines += [
        f"| mutant | {' | '.join(RUNGS)} | check | seconds |",
        f"|---|{':-:|' * len(RUNGS)}---|--:|",
    ]
    for found in detections:
        check = found.check or found.reason or "survived"
        lines.append(
            f"| {found.name} | {' | '.join(_cells(found))} | {check} | {found.seconds:.1f} |"
        )
    lines += ["", "| mutant | mistake | finding |", "|---|---|---|"]
    for found in detections:
        lines.append(f"| {found.name} | {MUTANTS[found.name].what} | {_message(found)} |")
    return "\n".join(lines) + "\n"


def _ladder() -> str:
    """Return a digest of the names of all checks, in order."""
    return hashlib.sha256("\n".join(CHECKS).encode()).hexdigest()[:16]


def read(report: Path, options: Options) -> dict[str, Detection]:
    """Return the detections of a report, by mutant, that still hold: those with the same options,
    and on the same ladder, of mutants with the same edit."""
    path = report.with_suffix(".json")
    values = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if values.get("options") != options._asdict() or values.get("ladder") != _ladder():
        return {}
    known = {field.name for field in fields(Detection)}
    return {
        name: Detection(**{key: one[key] for key in known} | {"expected": MUTANTS[name].check})
        for one in values["mutants"]
        if (name := one["name"]) in MUTANTS and one["edit"] == list(MUTANTS[name].edit)
    }


def write(
    report: Path, detections: Sequence[Detection], options: Options, legend: str = LEGEND
) -> None:
    """Write a report as NAME.json and NAME.md."""
    report.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "rungs": list(RUNGS),
        "ladder": _ladder(),
        "options": options._asdict(),
        "summary": summary(detections),
        "mutants": [
            {
                "what": MUTANTS[found.name].what,
                "package": MUTANTS[found.name].package,
                "edit": MUTANTS[found.name].edit,
                **found.to_dict(),
            }
            for found in detections
        ],
    }
    text = json.dumps(values, indent=1) + "\n"
    report.with_suffix(".json").write_text(text, encoding="utf-8")
    report.with_suffix(".md").write_text(markdown(detections, options, legend), encoding="utf-8")
