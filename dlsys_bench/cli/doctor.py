"""Examine this machine for what keeps the suite from working."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from dlsys_bench.cli.examination import Condition, examine
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE, show
from dlsys_bench.report.table import Table
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class DoctorOptions:
    """The options of `doctor`."""

    json: bool


@receives(DoctorOptions)
def doctor_command(options: DoctorOptions) -> None:
    """Print what was found, and exit with 1 if anything is wrong."""
    found = examine()
    wrong = [entry for entry in found if entry.state is Condition.WRONG]
    if options.json:
        emit(dumps([entry._asdict() for entry in found], indent=1))
    else:
        rows = [tuple(map(str, entry)) for entry in sorted(found, key=_urgency)]
        show(Table("This machine", ("part", "state", "found", "remedy"), rows), PAGE)
        say(f"{count_of(len(wrong), 'problem')} found" if wrong else "nothing is wrong")
    sys.exit(1 if wrong else 0)


def _urgency(entry: tuple[str, Condition, str, str]) -> int:
    return (Condition.WRONG, Condition.OK, Condition.MISSING).index(entry[1])
