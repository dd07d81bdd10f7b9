"""Accepting an intended change: new reference runs in place of the old, with a record of why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from dlsys_bench.provenance import commit_of, git_user, provenance
from dlsys_bench.runs.dependencies import TRAINING
from dlsys_bench.runs.direction import FIELD, with_better
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read
from dlsys_bench.runs.store.lock import folder_lock
from dlsys_bench.runs.store.text import write_text
from dlsys_bench.verdicts.difference import difference

ACCEPTED = "accepted"
"""The name of the records of what was accepted, in the provenance of each run."""


def figures_of(runs: Sequence[Result], metric: str) -> list[float]:
    """Return a figure of the runs that have it."""
    return [value for run in runs if (value := run.metric(metric)) is not None]


def describe_figures(values: Sequence[float]) -> str:
    """Return the mean, the standard deviation and the number of figures."""
    if not values:
        return "no runs"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    return f"{mean(values):.5g}{spread} ({len(values)})"


def differences(old: Sequence[Result], new: Sequence[Result]) -> list[str]:
    """Describe each figure of the old and of the new runs, with the difference of the means and its
    95% interval."""
    lines = []
    for name in dict.fromkeys(name for run in (*old, *new) for name in run.figures):
        before, after = figures_of(old, name), figures_of(new, name)
        line = f"{name}: {describe_figures(before)} -> {describe_figures(after)}"
        if min(len(before), len(after)) > 1:
            found = difference(new, old, name)
            line += f", {found.mean:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"
        lines.append(line)
    return lines


def history(runs: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the records of what was accepted, the oldest first."""
    longest: list[dict[str, Any]] = []
    for run in runs:
        longest = max(longest, run.provenance.get(ACCEPTED, []), key=len)
    return list(longest)


def accepted(old: Sequence[Result], new: Sequence[Result], why: str, folder: Path) -> list[Result]:
    """Return the new runs with the record of their acceptance, and the directions of the old.

    The record holds who accepted them, when, at which commit of the repository that `folder` is in,
    with which versions, why, and the difference.
    """
    last = new[-1].provenance
    record = {
        "why": why,
        "who": git_user(folder),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit_of(folder),
        "versions": {**provenance()["versions"], **last.get(TRAINING, {}).get("packages", {})},
        "difference": differences(old, new),
    }
    stated = [run.provenance.get(TRAINING, {}).get(FIELD, {}) for run in old]
    better = {name: text for each in stated for name, text in each.items()}
    records = [*history(old), record]
    return [
        replace(run, provenance={**run.provenance, ACCEPTED: records})
        for run in (
            with_better(run, {k: v for k, v in better.items() if k in run.figures}) for run in new
        )
    ]


def replace_runs(path: Path, name: str, new: Sequence[Result]) -> None:
    """Write the runs of a training in place of those that the file has; the others stay.

    Raises StoreError if the file cannot be written; it is then unchanged.
    """
    with folder_lock(path):
        others = [run for run in (read(path) if path.exists() else ()) if run.key.study != name]
        write_text(path, [*others, *new])
