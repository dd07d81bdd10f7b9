"""Examine this machine for what keeps the suite from working."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from dlsys_bench.cli.examination import EXAMINATIONS, Condition, examine
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE, progress, show
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class DoctorOptions:
    """The options of `doctor`."""

    json: bool


TITLES = {
    Condition.WRONG: "Problems",
    Condition.OK: "In working order",
    Condition.MISSING: "Optional, missing",
}
"""The title of the table of each state, in the order of the tables."""


@receives(DoctorOptions)
def doctor_command(options: DoctorOptions) -> None:
    """Print what was found, and exit with 1 if anything is wrong."""
    with progress(len(EXAMINATIONS), "parts") as advance:
        found = examine(lambda part: advance(part, 1))
    wrong = [entry for entry in found if entry.state is Condition.WRONG]
    if options.json:
        emit(dumps([entry._asdict() for entry in found], indent=1))
    else:
        for state, title in TITLES.items():
            rows = [(one.part, one.found, one.remedy) for one in found if one.state is state]
            if rows:
                show(Table(title, ("part", "found", "remedy"), rows), PAGE)
        say(f"{count_of(len(wrong), 'problem')} found" if wrong else "nothing is wrong")
    sys.exit(1 if wrong else 0)
