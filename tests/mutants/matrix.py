"""The detection matrix: which rung finds which mutant, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dlsys_bench.conformance.check import RUNGS
from dlsys_bench.conformance.runner import Options
from mutants.detection import Detection
from mutants.table import MUTANTS

TITLE = "# What finds which broken engine"
LEGEND = (
    "Each row is an engine with one known mistake. · a rung that it passes, **X** the one that finds it, blank "
    "those that were not needed; (X) where another rung was expected to find it first. Seconds are the whole climb's."
)


def summary(detections: Sequence[Detection]) -> str:
    """One line."""
    ran = [found for found in detections if found.reason is None]
    survivors = [found.name for found in ran if found.survived]
    blind = [found.name for found in ran if found.expected is None and found.check is None]
    elsewhere = [
        f"{found.name} (in {found.found})" for found in ran if found.found and not found.as_expected
    ]
    caught = len(ran) - len(survivors) - len(blind)
    parts = [f"{caught} of {caught + len(survivors)} mutants found"]
    if len(ran) < len(detections):
        parts.append(f"{len(detections) - len(ran)} skipped")
    parts.append(f"survived: {', '.join(survivors)}" if survivors else "none survived")
    if blind:
        parts.append(f"known to survive: {', '.join(blind)}")
    if elsewhere:
        parts.append(f"found elsewhere than expected: {', '.join(elsewhere)}")
    return "; ".join(parts)


def _cells(found: Detection) -> list[str]:
    if found.reason is not None:
        return [""] * len(RUNGS)
    reached = RUNGS.index(found.found) if found.found else len(RUNGS)
    mark = "**X**" if found.as_expected else "(X)"
    return [
        "·" if place < reached else mark if place == reached else "" for place in range(len(RUNGS))
    ]


def _said(found: Detection) -> str:
    survives = MUTANTS[found.name].survives
    return (
        f"nothing: {survives}"
        if survives and found.check is None
        else found.message.replace("|", "\\|")
    )


def markdown(detections: Sequence[Detection], options: Options) -> str:
    """The matrix: a row a mutant, a column a rung."""
    drawn = f"seed {options.seed}, {options.examples} examples a search"
    lines = [TITLE, "", LEGEND, "", f"{summary(detections)}. Checks ran with {drawn}.", ""]
    lines += [
        f"| mutant | {' | '.join(RUNGS)} | check | seconds |",
        f"|---|{':-:|' * len(RUNGS)}---|--:|",
    ]
    for found in detections:
        check = found.check or found.reason or "survived"
        lines.append(
            f"| {found.name} | {' | '.join(_cells(found))} | {check} | {found.seconds:.1f} |"
        )
    lines += ["", "| mutant | what is wrong | what is said |", "|---|---|---|"]
    for found in detections:
        lines.append(f"| {found.name} | {MUTANTS[found.name].what} | {_said(found)} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, detections: Sequence[Detection], options: Options) -> None:
    """mutants.json and mutants.md."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "rungs": list(RUNGS),
        "options": options._asdict(),
        "summary": summary(detections),
        "mutants": [
            {
                "what": MUTANTS[found.name].what,
                "package": MUTANTS[found.name].package,
                **found.to_dict(),
            }
            for found in detections
        ],
    }
    (folder / "mutants.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (folder / "mutants.md").write_text(markdown(detections, options), encoding="utf-8")
