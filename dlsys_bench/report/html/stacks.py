"""The section about what runs were made with: packages, commits and machines, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dlsys_bench.report.html.page import Section, Sheet
from dlsys_bench.report.layout import NONE
from dlsys_bench.runs.result import Result


def stack_section(results: Sequence[Result]) -> Section:
    """Return a table with a row for each time that the packages, the commit or the machine of the
    runs changed, the newest first."""
    ordered = sorted(results, key=lambda run: str(run.provenance.get("time", "")))
    before: dict[str, str] | None = None
    rows = []
    for _, group in groupby(ordered, lambda run: sorted(_facts(run).items())):
        runs = list(group)
        facts = _facts(runs[0])
        times = [str(run.provenance.get("time", NONE)) for run in (runs[0], runs[-1])]
        engines = ", ".join(dict.fromkeys(run.key.engine for run in runs))
        rows.append((*times, str(len(runs)), engines, _changes(before, facts)))
        before = facts
    columns = ("first run", "last run", ">runs", "engines", "changed since the runs before")
    text = ("One row for each change, the newest first.",)
    return Section("What changed since the last run", text, [Sheet("Runs", columns, rows[::-1])])


def _facts(run: Result) -> dict[str, str]:
    """Return what a run was made with, by name. The versions are those of the packages."""
    found = run.provenance
    machine: Mapping[str, Any] = found.get("machine", {})
    facts = {"commit": found.get("commit")}
    facts |= {name: machine.get(name) for name in ("processor", "cores", "system")}
    facts |= found.get("versions", {})
    return {name: str(value) for name, value in facts.items() if value is not None}


def _changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """Return what differs between two stacks, in words."""
    if before is None:
        return "first runs: " + ", ".join(f"{name} {value}" for name, value in now.items())
    names = dict.fromkeys((*before, *now))
    return ", ".join(
        f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}"
        for name in names
        if before.get(name) != now.get(name)
    )
