"""Compare two sets of stored runs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlsys_bench.cli.options import as_json
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.errors import UserError, nearest

if TYPE_CHECKING:
    from dlsys_bench.runs.result import Result

KEYS = ("study", "arm", "dataset", "tier", "engine", "device", "dtype", "convention", "protocol")


@click.command("compare")
@click.argument("a")
@click.argument("b")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="What to compare, as test_loss or a figure of the runs; repeatable. Default: what the study judges "
    "by; of runs of a callable every figure that both have.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, min_open=True),
    default=0.005,
    show_default=True,
    help="Means closer than this are the same, in units of the figure.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="The chance that any row of the table says DIFFERS where nothing does; and of each SAME that is "
    "not.",
)
@as_json
def compare_command(
    a: str, b: str, metrics: tuple[str, ...], margin: float, alpha: float, as_json: bool
) -> None:
    """Runs A against runs B: before and after an upgrade, one engine and another, CPU and GPU.

    A and B are files of runs, each with an optional selection: runs.jsonl@engine=torch,tier=quick.
    An arm that both have by the same protocol is SAME (two one-sided tests inside the margin),
    DIFFERS (Holm over the table; of how many runs diverged by Fisher's exact test) or UNDECIDED
    (with how many more runs would decide it).

    Exit codes: 0 none differs, 1 some differ, 2 usage or nothing to compare, 3 none differs but
    some are undecided.
    """
    from dlsys_bench.report.tables import comparison_table
    from dlsys_bench.verdicts.compare import Relation, compare

    found = compare(_selected(a), _selected(b), metrics=metrics, margin=margin, alpha=alpha)
    judged = [one for one in found if one.relation is not Relation.LEFT_OUT]
    counts = Counter(one.relation for one in judged)
    code = 1 if counts[Relation.DIFFERS] else 3 if counts[Relation.UNDECIDED] else 0
    if as_json:
        click.echo(
            json.dumps(
                {
                    "a": a,
                    "b": b,
                    "margin": margin,
                    "alpha": alpha,
                    "comparisons": [one.to_dict() for one in found],
                },
                indent=1,
            )
        )
        sys.exit(code)
    said = ", ".join(f"{count} {relation}" for relation, count in counts.items())
    show(
        comparison_table(
            judged, f"{a} (A) and {b} (B): {said} (margin {margin:g}, alpha {alpha:g})"
        )
    )
    for one in found:
        if one.relation is Relation.LEFT_OUT:
            say(f"left out: {' '.join(filter(None, (one.key.path, one.metric)))}: {one.reason}")
    sys.exit(code)


def _selected(target: str) -> list[Result]:
    """The runs that "file@key=value,key=value" names. Errors: UserError."""
    from dlsys_bench.runs.store import read

    # A file may have an @ in its name; what follows the last one selects only where it is not part
    # of a file's.
    name, at, selection = (target, "", "") if Path(target).exists() else target.rpartition("@")
    if not at and not Path(target).exists():
        raise UserError(
            f"no file {target!r}; it takes a file of runs, as in runs.jsonl or runs.jsonl@engine=torch"
        )
    runs = read(Path(name))
    for condition in filter(None, selection.split(",")):
        key, equals, value = condition.partition("=")
        if not equals or key not in KEYS:
            raise UserError(
                f"cannot select by {condition!r} in {target!r}{nearest(key, KEYS)}; it takes key=value, by "
                + ", ".join(KEYS)
            )
        values = list(dict.fromkeys(_field(run, key) for run in runs))
        # A group of studies is selected by its name, as everywhere.
        group = f"{value}/" if key == "study" else None
        runs = [
            run
            for run in runs
            if _field(run, key) == value or (group and run.key.study.startswith(group))
        ]
        if not runs:
            has = ", ".join(values) or "no run at all"
            raise UserError(
                f"no runs of {key} {value!r} in {target!r}{nearest(value, values)}; there are {has}"
            )
    return runs


def _field(run: Result, name: str) -> str:
    return run.convention if name == "convention" else str(getattr(run.key, name))
