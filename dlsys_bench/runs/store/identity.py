"""Runs are identified by their keys: a run that is stored twice counts once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies

SHOWN = 3
"""The number of conflicts that are described each; the others are counted."""


class Found(NamedTuple):
    """A run, and the place where it was found, as in "line 3"."""

    place: str
    result: Result


class Unique(NamedTuple):
    """The last run of each key, in order, and a line for each key with different results."""

    runs: list[Result]
    conflicts: list[str]


def last_of_each(found: Iterable[Found], used: str = "the last is used") -> Unique:
    """Return the last run of each key, and the keys whose runs do not have the same result.

    `used` ends the line on such a key.
    """
    last: dict[Key, Found] = {}
    conflicts: dict[Key, str] = {}
    for one in found:
        key = one.result.key
        # The last one is placed where it was found, as in a store.
        before = last.pop(key, None)
        last[key] = one
        if before is not None and (differing := _difference(before.result, one.result)):
            conflicts[key] = (
                f"conflict: {key.label}, seed {key.seed}: {differing} "
                f"({before.place} and {one.place}); {used}"
            )
    lines = list(conflicts.values())
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"conflict: {len(lines) - SHOWN:,} more runs have different results"]
    return Unique([one.result for one in last.values()], lines)


def _difference(a: Result, b: Result) -> str:
    """Describe the first figure that differs in two runs of one key, "" if there is none.

    Durations are no part of the result. The figures of a study may contain durations too, so that
    only its metric is compared.
    """
    measured = _measured(a), _measured(b)
    for name in {**measured[0], **measured[1]}:
        values = [f"{side.get(name)!r:.60}" for side in measured]
        if measured[0].get(name) != measured[1].get(name):
            return f"{name} is {values[0]} and {values[1]}"
    return ""


def _measured(run: Result) -> dict[str, Any]:
    """Return what was measured in a run, by name."""
    study = studies().get(run.key.study)
    names = run.figures if study is None else {study.metric.name}
    epochs = {
        f"{name} of epoch {epoch.epoch}": value
        for epoch in run.history
        for name, value in vars(epoch).items()
        if name not in ("epoch", "seconds", "by_step")
    }
    figures = {name: run.figures[name] for name in names if name in run.figures}
    return {"status": run.status} | figures | epochs
