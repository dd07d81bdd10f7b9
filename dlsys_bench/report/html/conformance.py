"""The sections about conformance: the matrix of checks, the findings, and the mutants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dlsys_bench.conformance.causes import Cause, causes
from dlsys_bench.conformance.check import RUNGS
from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.report.compliance import compliance_table, declared_table
from dlsys_bench.report.html.page import Section, Sheet
from dlsys_bench.report.layout import NONE


def compliance_sections(
    report: Compliance, changed: Sequence[tuple[str, str, str]] = ()
) -> list[Section]:
    """Return the sections about the climb of an engine; `changed` lists checks with their status
    before and now."""
    found = [_causes(each)] if (each := causes(report.results)) else []
    if changed:
        changes = Sheet("Changes", ("check", "before", "now"), changed)
        found.append(Section("Changed since the last report", sheets=[changes]))
    found.append(Section("Rungs", sheets=[Sheet.of(compliance_table(report))]))
    if declared := declared_table(report):
        found.append(Section("Declared", sheets=[Sheet.of(declared)]))
    checks = [
        (
            one.name,
            one.rung,
            str(one.status),
            str(one.finding or one.reason or NONE),
            f"{one.seconds:.2f}",
        )
        for one in report.results
    ]
    heads = ("check", "rung", "status", "finding or reason", ">seconds")
    found.append(Section("Checks", sheets=[Sheet("All checks", heads, checks)]))
    return found


def _causes(found: Sequence[Cause]) -> Section:
    """The lowest check of each probable cause, with what follows from it and how to repeat it."""
    rows, commands = [], []
    for cause in found:
        root = cause.root
        follow = ", ".join(result.name for result, _ in cause.consequences)
        rows.append((root.name, str(root.finding), str(len(cause.consequences)), follow or NONE))
        commands.append((f"explain {root.name}", f"dlsys-bench conform --explain {root.name}"))
        if root.replay:
            commands.append((f"replay {root.name}", root.replay))
        if root.finding is not None and root.finding.snippet:
            commands.append((f"{root.name} without an engine", root.finding.snippet))
    columns = ("check", "finding", ">consequences", "checks that follow from it")
    sheet = Sheet("The lowest check of each cause", columns, rows)
    return Section("Probable causes", sheets=[sheet], commands=commands)


def matrix_section(reports: Sequence[Compliance]) -> Section:
    """Return a table of the checks that each engine passed, by rung."""
    rows = []
    for report in reports:
        cells = [_cell([one for one in report.results if one.rung == rung]) for rung in RUNGS]
        rows.append((report.engine, *cells, _verdict(report)))
    text = (
        "Each cell has the number of checks that the engine passed, of those that ran. A check of "
        "what the engine declares to lack, with a reason, does not run.",
    )
    sheet = Sheet("Checks passed by rung", ("engine", *(f">{r}" for r in RUNGS), "verdict"), rows)
    return Section("Conformance", text, [sheet])


def _cell(results: Sequence[CheckResult]) -> str:
    counts = Counter(one.status for one in results)
    ran = len(results) - counts[Status.DECLARED] - counts[Status.NOT_REACHED]
    return f"{counts[Status.PASSED]} of {ran}" if ran else NONE


def _verdict(report: Compliance) -> str:
    if report.inconclusive:
        return "INCONCLUSIVE"
    return "conforms" if report.conforms else "failed"


def mutants_section(mutants: Mapping[str, Any]) -> Section:
    """Return a matrix of the mutants by the rung that is expected to find them and the one that
    does, and a table of all. `mutants` is the JSON of the report on them."""
    rungs, every = mutants["rungs"], mutants["mutants"]
    counts = Counter((str(one["expected"]), str(one["found"])) for one in every)
    ends = [*rungs, "None"]
    rows = [
        (expected, *(str(counts[expected, found] or "") for found in ends))
        for expected in rungs
        if any(counts[expected, found] for found in ends)
    ]
    heads = ("expected on", *(f">{rung}" for rung in rungs), ">none")
    columns = ("mutant", "what is wrong", "expected", "found", "by the check", "result")
    table = [
        (
            str(one["name"]),
            str(one["what"]),
            str(one["expected"]),
            str(one["found"] or NONE),
            str(one["check"] or NONE),
            "found" if one["found"] else "survived",
        )
        for one in every
    ]
    sheets = [Sheet("Rung that finds a mutant", heads, rows), Sheet("Mutants", columns, table)]
    return Section("Mutants", (str(mutants["summary"]),), sheets)
