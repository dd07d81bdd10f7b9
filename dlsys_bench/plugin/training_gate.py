"""The fixture `accuracy_gate`: a user's own training, judged or calibrated."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.plugin.gate import Judge
from dlsys_bench.runs.callables import Train, name_of, stored_figures, train_once
from dlsys_bench.runs.dependencies import TRAINING, data_files, dependencies_of
from dlsys_bench.runs.direction import check_better, with_better
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import check_writable, read
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.acceptance import accepted, differences, replace_runs
from dlsys_bench.verdicts.gate import Terms, gate_training, share
from dlsys_bench.verdicts.independence import NO_EFFECT
from dlsys_bench.verdicts.repeats import repeated_seeds
from dlsys_bench.verdicts.verdict import Verdict

T = TypeVar("T")
Reference = str | Path | Sequence[float]
Metrics = str | Metric | Sequence[str | Metric] | None

REFERENCE_RUNS = 20
"""The number of runs that `pytest --dlsys-update` trains, with the seeds from 0 on."""


class Directions(TypedDict, total=False):
    """Further arguments of an accuracy gate."""

    better: str | Mapping[str, str] | None
    side: str | Mapping[str, str]
    smallest_drop: float | None


class AccuracyGate:
    """`accuracy_gate(train, reference, smallest_shift=0.005)`.

    `train(seed)` returns the metric, or several by name.
    """

    def __init__(self, request: pytest.FixtureRequest, judge: Judge) -> None:
        self.request, self.judge = request, judge

    def __call__(
        self,
        train: Train,
        reference: Reference,
        smallest_shift: float | Mapping[str, float] | None = None,
        *,
        metric: Metrics = None,
        max_seeds: int | None = None,
        first_seed: int | None = None,
        **directions: Unpack[Directions],
    ) -> Verdict | list[Verdict]:
        """Train with one seed after another until the metric passes or fails; then fail the test.

        `reference` is a file of reference runs (`dlsys-bench calibrate package.module:train
        --output FILE`, or `pytest --dlsys-update`), in the folder of the test or in the root
        folder, or the values themselves. `smallest_shift` is the shift to detect, in the metric's
        units (default: the smallest that can be detected); its former name `smallest_drop` is
        deprecated. With `side` "drop" or "rise", only shifts in that direction fail. `better`,
        "higher" or "lower", is the direction of the metric. Seeds count from `first_seed` (default:
        10000); no reference run may have one of them.

        `metric` names the one to judge, or several. These are judged on the same runs and share the
        false-alarm rate of the test; `smallest_shift`, `better` and `side` may then be mappings
        from their names, and a list of verdicts is returned in place of one.
        """
        shift = _smallest_shift(directions, smallest_shift)
        better, side = directions.get("better"), directions.get("side", "both")
        metrics: list[str | Metric | None] = (
            [metric] if metric is None or isinstance(metric, str | Metric) else [*metric]
        )
        if not metrics:
            raise UserError("metric names no metric")
        names = [str(each) for each in metrics if each is not None]
        usual = self.judge.terms
        terms = replace(
            usual,
            alpha=share(len(metrics), usual.alpha),
            max_seeds=usual.max_seeds if max_seeds is None else max_seeds,
            first_seed=usual.first_seed if first_seed is None else first_seed,
        )

        def judge() -> list[Verdict]:
            for values in (shift, better, side):
                _check_names(values, names)
            if self.request.config.getoption("dlsys_update"):
                self._update(train, reference, better)
            runs = self._reference_runs(train, reference, metrics[0])
            once = cache(train)
            each = [
                self._judge(
                    once,
                    name_of(train),
                    reference,
                    runs,
                    one,
                    replace(terms, smallest_shift=_of(shift, one), side=_of(side, one) or "both"),
                    _of(better, one),
                )
                for one in metrics
            ]
            # The verdict over all gates takes its runs to be independent.
            return [each[0], *(replace(verdict, stratum=None) for verdict in each[1:])]

        verdicts = self.judge.settle(self.request, judge)
        one = metric is None or isinstance(metric, str | Metric)
        return verdicts[0] if one else verdicts

    def _judge(
        self,
        train: Train,
        name: str,
        reference: Reference,
        runs: tuple[list[Result], str],
        metric: str | Metric | None,
        terms: Terms,
        better: str | None,
    ) -> Verdict:
        """Judge one metric."""
        stored, source = runs
        verdict = gate_training(
            train, stored, metric=metric, terms=terms, source=source, name=name, better=better
        )
        test = shlex.quote(self.request.node.nodeid)
        if not isinstance(reference, str | Path):
            # The values are nowhere but in the test.
            return replace(verdict, replay=f"pytest {test}")
        if "<" in name:
            # A function inside another has no name by which a command finds it.
            return replace(verdict, replay=f"pytest {test}", accept=f"pytest --dlsys-update {test}")
        accept = ["dlsys-bench", "baseline", "accept", source, "--why", "TEXT"]
        return replace(verdict, accept=shlex.join(accept))

    def _path(self, reference: str | Path) -> Path | None:
        """The file of reference runs, if it exists."""
        return next((path for path in self._paths(reference) if path.exists()), None)

    def _paths(self, reference: str | Path) -> list[Path]:
        folders = dict.fromkeys((self.request.path.parent, self.request.config.rootpath))
        return [folder / reference for folder in folders]

    def _reference_runs(
        self, train: Train, reference: Reference, metric: str | Metric | None
    ) -> tuple[list[Result], str]:
        """The reference runs, and the name of their source."""
        if not isinstance(reference, str | Path):
            return stored_figures(reference, metric), "the values given"
        path, name = self._path(reference), name_of(train)
        command = f"dlsys-bench calibrate {name} --seeds 20 --output {reference}"
        if "<" in name:
            command = "pytest --dlsys-update"
        if path is None:
            where = " or ".join(str(path.parent) for path in self._paths(reference))
            raise UserError(f"no runs in {reference}, from {where}: {command}")
        runs = read(path)
        if not runs:
            raise UserError(f"{path} holds no runs: {command}")
        return _runs_of(name, runs, f"{path} holds runs of", command), str(path)

    def _update(
        self, train: Train, reference: Reference, better: str | Mapping[str, str] | None
    ) -> None:
        """Train new reference runs, write them in place of the old, and skip the test."""
        if not isinstance(reference, str | Path):
            raise UserError("--dlsys-update writes a file: name one as the reference")
        path, name = self._path(reference) or self._paths(reference)[0], name_of(train)
        check_writable(path)
        stored = read(path) if path.exists() else []
        old = [run for run in stored if run.key.study == name]
        directions = {"": better} if isinstance(better, str) else dict(better or {})
        for each in directions.values():
            check_better(each)
        new = [
            with_better(_trained(train, name, seed), directions) for seed in range(REFERENCE_RUNS)
        ]
        if repeated := repeated_seeds(new):
            raise UserError(f"training {name!r}: {repeated}: {NO_EFFECT}")
        if old:
            new = accepted(old, new, "pytest --dlsys-update", self.request.path.parent)
        replace_runs(path, name, new)
        pytest.skip(
            f"{path}: {len(new)} reference runs written; {'; '.join(differences(old, new))}"
        )


def _trained(train: Train, name: str, seed: int) -> Result:
    """Train once, and record what the training depends on."""
    try:
        known: Mapping[str, object] = dependencies_of(name)
    except UserError:  # It cannot be found by its name.
        known = {}
    with data_files() as files:
        result = train_once(train, seed, name)
    training = {**known, "files": files}
    return replace(result, provenance={**result.provenance, TRAINING: training})


def _of(values: T | Mapping[str, T] | None, metric: str | Metric | None) -> T | None:
    """Return the value for a metric; one value is for every metric."""
    return values.get(str(metric)) if isinstance(values, Mapping) else values


def _check_names(values: object, names: Sequence[str]) -> None:
    """Raise a UserError if a mapping has a name that is not that of a judged metric."""
    unknown = set(values) - set(names) if isinstance(values, Mapping) else set()
    if unknown:
        raise UserError(
            f"accuracy_gate got a value for {sorted(unknown)[0]!r}, which it does not judge: "
            f"metric={names!r}"
        )


def _smallest_shift(
    given: Directions, smallest_shift: float | Mapping[str, float] | None
) -> float | Mapping[str, float] | None:
    """Return the smallest shift, under its former name `smallest_drop` as well."""
    if unknown := set(given) - set(Directions.__annotations__):
        raise TypeError(f"accuracy_gate() got an unexpected keyword argument {unknown.pop()!r}")
    if "smallest_drop" not in given:
        return smallest_shift
    warnings.warn(
        "accuracy_gate: smallest_drop is named smallest_shift", DeprecationWarning, stacklevel=3
    )
    return given["smallest_drop"]


def _runs_of(name: str, runs: list[Result], holds: str, command: str) -> list[Result]:
    """The runs of a training; all of them if they are of one training under another name.

    The module of a training may have another name here than where the training was calibrated. Runs
    of several trainings do not come from one distribution: they raise a UserError.
    """
    found = [run for run in runs if run.key.study == name]
    names = list(dict.fromkeys(run.key.study for run in runs))
    if not found and len(names) > 1:
        raise UserError(f"{holds} {', '.join(names)}, none of {name}: {command}")
    return found or runs
