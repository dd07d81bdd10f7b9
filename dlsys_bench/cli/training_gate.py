"""Judge a user's own training on the command line."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from dlsys_bench.cli.reference import runs_of_training
from dlsys_bench.cli.terminal import say
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.report.display import columns, latest_figures, progress
from dlsys_bench.runs.callables import Train, find_train
from dlsys_bench.runs.direction import check_better
from dlsys_bench.runs.result import Result
from dlsys_bench.text import describe
from dlsys_bench.verdicts.gate import Terms
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Verdict


class Asked(Protocol):
    """The options of `gate` about a user's own training."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The judged metrics; none stands for that of a training which returns only one."""

    @property
    def smallest_shift(self) -> tuple[str, ...]:
        """The shifts to detect, by metric."""

    @property
    def better(self) -> tuple[str, ...]:
        """The directions, by metric."""

    def terms(self, alpha: float, metric: str = "") -> Terms:
        """Return the terms of the gate of a metric."""

    def keep(self, result: Result) -> None:
        """Store a run."""


def judge_training(target: str, reference: Path, asked: Asked, alpha: float) -> list[Verdict]:
    """Judge each metric of a training on the same runs, at its share of the false-alarm rate.

    `reference` is the file of the reference runs. Each new run is stored, and the verdicts are
    printed when all are known.
    """
    metrics = tuple(dict.fromkeys(asked.metrics)) or ("",)
    check_metrics(metrics, asked.smallest_shift, "--smallest-shift")
    check_metrics(metrics, asked.better, "--better")
    train = cache(_guarded(find_train(target), target))
    stored, seen = runs_of_training(target, reference), set[int]()
    with progress(asked.terms(alpha).max_seeds, "seeds at most") as advance:

        def on_result(result: Result) -> None:
            new = result.seed not in seen
            seen.add(result.seed)
            if new:
                asked.keep(result)
            advance(f"{target}, seed {result.seed}: {latest_figures(result)}", int(new))

        def judge(metric: str) -> Verdict:
            return gate_training(
                train,
                stored,
                metric=metric or None,
                terms=asked.terms(alpha, metric),
                source=str(reference),
                name=target,
                on_result=on_result,
                better=_better(asked, metric),
            )

        found = list(map(judge, metrics))
    return _with_acceptance(found, target, reference)


def _better(asked: Asked, metric: str) -> str | None:
    """Return the direction of a metric. Raises UserError for anything else."""
    better = value_of_metric(asked.better, metric)
    if better is not None:
        check_better(better)
    return better


def _with_acceptance(found: Sequence[Verdict], target: str, reference: Path) -> list[Verdict]:
    """Print the verdicts, and return them with the command that accepts the change."""
    accept = ["dlsys-bench", "baseline", "accept", target, "--reference", str(reference)]
    command = shlex.join([*accept, "--why", "TEXT"])
    verdicts = [replace(verdict, accept=command) for verdict in found]
    for verdict in verdicts:
        say(verdict.message(columns()))
    # The verdict over all gates takes its runs to be independent.
    return [verdicts[0], *(replace(verdict, stratum=None) for verdict in verdicts[1:])]


def check_metrics(metrics: Sequence[str], texts: Iterable[str], option: str) -> None:
    """Raise a UserError if an option has a value for a metric that is not judged."""
    for text in texts:
        metric = text.rpartition("=")[0]
        if metric and metric not in metrics:
            raise UserError(
                f"{option} {text}: {metric!r} is not judged{nearest(metric, metrics)}; "
                f"--metric {metric} judges it"
            )


def value_of_metric(texts: Iterable[str], metric: str) -> str | None:
    """Return the value of a metric among "VALUE" and "METRIC=VALUE"; None if it has none."""
    values = {text.rpartition("=")[0]: text.rpartition("=")[2] for text in texts}
    return values.get(metric, values.get(""))


def _guarded(train: Train, target: str) -> Train:
    """A training whose exceptions are UserErrors.

    The exit codes belong to the gate: an exception that a training raises, or a code that it exits
    with, must not be mistaken for a verdict.
    """

    def guarded(seed: int) -> Any:
        try:
            return train(seed)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            say(traceback.format_exc())
            raise UserError(f"training {target!r}, seed {seed}: {describe(error)}") from error

    return guarded
