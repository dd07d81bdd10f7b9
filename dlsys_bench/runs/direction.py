"""The direction of the metrics of a user's training, which is stated and never read from a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dlsys_bench.errors import UserError, nearest
from dlsys_bench.runs.dependencies import TRAINING
from dlsys_bench.runs.result import Result

BETTER = {"higher": True, "lower": False}
"""The directions, with `Metric.higher_is_better`."""

FIELD = "better"


def check_better(better: str) -> bool:
    """Return True if higher is better. Raises UserError for anything but a direction."""
    if better not in BETTER:
        raise UserError(
            f"better is {better!r}{nearest(str(better), BETTER)}; expected higher or lower"
        )
    return BETTER[better]


def read_better(texts: Iterable[str]) -> dict[str, str]:
    """Return the directions by metric from "accuracy=higher" or, for every metric, "higher".

    The key of the latter is empty. Raises UserError.
    """
    found = {}
    for text in texts:
        name, _, better = text.rpartition("=")
        check_better(better)
        found[name] = better
    return found


def with_better(run: Result, better: Mapping[str, str]) -> Result:
    """Return the run with the directions of its metrics in its provenance.

    Raises UserError for a metric that the run does not have.
    """
    if not better or run.status != "finished":
        return run
    if unknown := set(better) - {"", *run.figures}:
        name = unknown.pop()
        raise UserError(
            f"{run.key.study} returns no metric {name!r}{nearest(name, run.figures)}; "
            f"it returns {', '.join(run.figures)}"
        )
    directions = {name: better.get(name, better.get("")) for name in run.figures}
    stated = {name: direction for name, direction in directions.items() if direction}
    training = (run.provenance or {}).get(TRAINING, {}) | {FIELD: stated}
    return replace(run, provenance={**run.provenance, TRAINING: training})


def better_of(runs: Sequence[Result], metric: str) -> str | None:
    """Return the direction of a metric that runs state; None if none does.

    Raises UserError if they disagree.
    """
    stated = [(run.provenance or {}).get(TRAINING, {}).get(FIELD, {}).get(metric) for run in runs]
    found = list(dict.fromkeys(better for better in stated if better))
    if len(found) > 1:
        raise UserError(f"the reference runs disagree whether higher or lower {metric} is better")
    return found[0] if found else None
