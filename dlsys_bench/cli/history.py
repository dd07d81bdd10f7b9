"""Show the history of figures over commits, and where they changed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import UserError, count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE, show
from dlsys_bench.report.history import history_csv, history_json, history_table
from dlsys_bench.report.html.history import history_sections
from dlsys_bench.strict_json import dumps
from dlsys_bench.verdicts.history import FigureSeries, read_histories


@dataclass(frozen=True)
class HistoryOptions:
    """The arguments and the options of `history`."""

    files: tuple[Path, ...]
    metric: str | None
    alpha: float
    csv: Path | None
    export: Path | None
    html: Path | None
    json: bool


@receives(HistoryOptions)
def history_command(options: HistoryOptions) -> None:
    """Print the series, and exit with 1 if any changed."""
    check_page(options.html)
    found = read_histories(options.files, options.metric, options.alpha)
    changed = [one for one in found if one.changes]
    if options.json:
        emit(dumps([_to_dict(one) for one in found], indent=1))
    else:
        show(history_table(found, options.alpha), PAGE)
    for path, text in ((options.csv, history_csv), (options.export, history_json)):
        if path is not None:
            _write(path, text(found))
    outcome = f"{len(changed)} of {count_of(len(found), 'series', 'series')} changed"
    write(options.html, "History", outcome, (), history_sections(found, options.alpha))
    sys.exit(1 if changed else 0)


def _to_dict(history: FigureSeries) -> dict[str, Any]:
    values = dict(vars(history))
    values["moments"] = [one._asdict() for one in values["moments"]]
    values["changes"] = [vars(one) for one in values["changes"]]
    return values


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    say(str(path))
