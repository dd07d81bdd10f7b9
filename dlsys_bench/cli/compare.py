"""Compare two sets of stored runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE, columns, show
from dlsys_bench.report.html.comparisons import comparison_sections
from dlsys_bench.report.tables import comparison_table
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.registry import studies
from dlsys_bench.text import fold
from dlsys_bench.verdicts.all_arms import ArmsComparison, compare_engines
from dlsys_bench.verdicts.compare import compare
from dlsys_bench.verdicts.comparison import Comparison, Relation

KEYS = ("study", "arm", "dataset", "tier", "engine", "device", "dtype", "convention", "protocol")


@dataclass(frozen=True)
class CompareOptions:
    """The arguments and the options of `compare`."""

    a: str
    b: str
    metrics: tuple[str, ...]
    margin: float
    alpha: float
    json: bool
    html: Path | None


@receives(CompareOptions)
def compare_command(options: CompareOptions) -> None:
    """Print the comparisons, and exit with 1 if any differs, 3 if any is undecided."""
    check_page(options.html)
    a, b = select_runs(options.a), select_runs(options.b)
    found = compare(
        a,
        b,
        metrics=options.metrics,
        margin=options.margin,
        alpha=options.alpha,
    )
    together = compare_engines(a, b, options.alpha)
    counts = Counter(one.relation for one in found)
    if options.json:
        head = {name: getattr(options, name) for name in ("a", "b", "margin", "alpha")}
        comparisons = [one.to_dict() for one in found]
        all_arms = [one.to_dict() for one in together]
        emit(dumps(head | {"comparisons": comparisons, "all_arms": all_arms}, indent=1))
    else:
        _print(found, options)
        for one in together:
            say(fold(one.message(), columns()))
    if options.html is not None:
        levels = f"Margin {options.margin:g}, alpha {options.alpha:g}."
        messages = [one.message() for one in together]
        summary = (f"A is {options.a}, B is {options.b}.", levels, *messages)
        sections = comparison_sections(found, options.margin)
        write(options.html, "Comparison of runs", _worst(counts, together), summary, sections)
    differs = counts[Relation.DIFFERS] or any(one.differs for one in together)
    sys.exit(1 if differs else 3 if counts[Relation.UNDECIDED] else 0)


def _worst(counts: Counter[Relation], together: Sequence[ArmsComparison]) -> str:
    if any(one.differs for one in together):
        return Relation.DIFFERS
    order = (Relation.DIFFERS, Relation.UNDECIDED, Relation.SAME, Relation.LEFT_OUT)
    return next(relation for relation in order if counts[relation])


def _print(found: Sequence[Comparison], options: CompareOptions) -> None:
    judged = [one for one in found if one.relation is not Relation.LEFT_OUT]
    counts = Counter(one.relation for one in judged)
    summary = ", ".join(f"{count} {relation}" for relation, count in counts.items())
    levels = f"margin {options.margin:g}, alpha {options.alpha:g}"
    title = f"{options.a} (A) and {options.b} (B): {summary} ({levels})"
    show(comparison_table(judged, title), PAGE)
    for one in found:
        if one.relation is Relation.LEFT_OUT:
            say(f"left out: {' '.join(filter(None, (one.key.path, one.metric)))}: {one.reason}")


def select_runs(target: str) -> list[Result]:
    """The runs that "file@key=value,key=value" selects. Raises UserError."""
    # The name of a file may contain an @; the text after the last one is a selection only if the
    # whole text does not name a file.
    name, at, selection = (target, "", "") if Path(target).exists() else target.rpartition("@")
    if not at and not Path(target).exists():
        raise UserError(
            f"no file {target!r}; expected a file of runs, "
            "as in runs.jsonl or runs.jsonl@engine=torch"
        )
    runs = read(Path(name))
    if not runs:
        raise UserError(f"{name} has no runs: there is nothing to compare")
    for condition in filter(None, selection.split(",")):
        runs = _matching(runs, condition, target)
    return runs


def _matching(runs: Sequence[Result], condition: str, target: str) -> list[Result]:
    """The runs that satisfy "key=value". Raises UserError if there are none."""
    key, equals, value = condition.partition("=")
    if not equals or key not in KEYS:
        raise UserError(
            f"cannot select by {condition!r} in {target!r}{nearest(key, KEYS)}; "
            f"expected key=value, with the key one of {', '.join(KEYS)}"
        )
    values = list(dict.fromkeys(_field(run, key) for run in runs))
    # The name of a group selects all of its studies, as it does for every command.
    group = key == "study" and {one.name for one in studies().values() if one.group == value}
    accepted = group or {value}
    found = [run for run in runs if _field(run, key) in accepted]
    if not found:
        existing = ", ".join(values) or "no run at all"
        raise UserError(
            f"no runs of {key} {value!r} in {target!r}{nearest(value, values)}; "
            f"there are {existing}"
        )
    return found


def _field(run: Result, name: str) -> str:
    return run.convention if name == "convention" else str(getattr(run.key, name))
