"""The fixture `accuracy_gate`: a user's own training, judged or calibrated."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Unpack

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.plugin.arguments import (
    Directions,
    GateArguments,
    Metrics,
    Reference,
    renamed_shift,
    value_for,
)
from dlsys_bench.plugin.gate import Judge
from dlsys_bench.plugin.progress import progress_of_test
from dlsys_bench.plugin.update import update
from dlsys_bench.report.display import latest_figures
from dlsys_bench.runs.callables import Train, runs_named, stored_figures, target_of
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read
from dlsys_bench.studies.base import Metric
from dlsys_bench.verdicts.candidate import OnRun
from dlsys_bench.verdicts.terms import WORSE
from dlsys_bench.verdicts.training_gate import find_metric, gate_for_training, gate_training
from dlsys_bench.verdicts.verdict import Verdict


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
        deprecated; one that cannot be detected is an error before anything is trained. `better`,
        "higher" or "lower", is the direction of the metric. By default, only shifts to the worse
        fail, or both ways if the direction is not stated; `side` is "drop", "rise" or "both". Seeds
        count from `first_seed` (default: 10000); no reference run may have one of them.

        `metric` names the one to judge, or several. These are judged on the same runs and share the
        false-alarm rate of the test; `smallest_shift`, `better` and `side` may then be mappings
        from their names, and a list of verdicts is returned in place of one.
        """
        shift = renamed_shift(directions, smallest_shift)
        better, side = directions.get("better"), directions.get("side", WORSE)
        asked = GateArguments(train, reference, metric, shift, better, side, max_seeds, first_seed)
        verdicts = self.judge.settle(self.request, lambda: self._judge_all(asked))
        return verdicts[0] if metric is None or isinstance(metric, str | Metric) else verdicts

    def _judge_all(self, asked: GateArguments) -> list[Verdict]:
        """Judge each metric on the same runs, or train reference runs."""
        asked.check()
        if self.request.config.getoption("dlsys_update"):
            if not isinstance(asked.reference, str | Path):
                raise UserError("--dlsys-update writes a file: name one as the reference")
            update(self.request, asked, self._path(asked.reference))
        stored, source = runs = self._reference_runs(asked)
        for metric in asked.metrics:
            judged = find_metric(stored, metric, source, value_for(asked.better, metric))
            own = asked.terms(self.judge.terms, metric)
            gate_for_training(stored, judged, own, source).check_shift()
        terms, seen = asked.terms(self.judge.terms, None), set[int]()
        once = cache(asked.train)
        with progress_of_test(self.request, terms.max_seeds, "seeds at most") as advance:

            def on_run(result: Result) -> None:
                new = result.seed not in seen
                seen.add(result.seed)
                advance(f"seed {result.seed}: {latest_figures(result)}", int(new))

            found = [self._judge(once, asked, runs, metric, on_run) for metric in asked.metrics]
        # The verdict over all gates takes its runs to be independent.
        return [found[0], *(replace(verdict, stratum=None) for verdict in found[1:])]

    def _judge(
        self,
        train: Train,
        asked: GateArguments,
        runs: tuple[list[Result], str],
        metric: str | Metric | None,
        on_run: OnRun,
    ) -> Verdict:
        """Judge one metric."""
        stored, source = runs
        verdict = gate_training(
            train,
            stored,
            metric=metric,
            terms=asked.terms(self.judge.terms, metric),
            source=source,
            name=asked.name,
            on_result=on_run,
            better=value_for(asked.better, metric),
        )
        test = shlex.quote(self._from_here(self.request.node.nodeid))
        if not isinstance(asked.reference, str | Path):
            # The values are nowhere but in the test.
            return replace(verdict, replay=f"pytest {test}")
        if asked.is_local:
            return replace(verdict, replay=f"pytest {test}", accept=f"pytest --dlsys-update {test}")
        target = target_of(asked.train, self.request.config.invocation_params.dir)
        command, gate, _, *options = shlex.split(verdict.replay)
        accept = [command, "baseline", "accept", target, "--reference", source, "--why", "TEXT"]
        return replace(
            verdict,
            replay=shlex.join([command, gate, target, *options]),
            accept=shlex.join(accept),
        )

    def _from_here(self, name: str) -> str:
        """Return a path below the root folder as it is written in the folder of the command."""
        root, here = self.request.config.rootpath, self.request.config.invocation_params.dir
        path = root / name
        return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

    def _path(self, reference: str | Path) -> Path:
        """The file of reference runs: the first that exists, else the one beside the test."""
        paths = self._paths(reference)
        return next((path for path in paths if path.exists()), paths[0])

    def _paths(self, reference: str | Path) -> list[Path]:
        folders = dict.fromkeys((self.request.path.parent, self.request.config.rootpath))
        return [folder / reference for folder in folders]

    def _reference_runs(self, asked: GateArguments) -> tuple[list[Result], str]:
        """The reference runs, and the name of their source."""
        if not isinstance(asked.reference, str | Path):
            return stored_figures(asked.reference, asked.metrics[0]), "the values given"
        path = self._path(asked.reference)
        name = self._from_here(str(path))
        target = target_of(asked.train, self.request.config.invocation_params.dir)
        command = f"dlsys-bench calibrate {target} --seeds 20 --output {name}"
        if asked.is_local:
            command = "pytest --dlsys-update"
        if not path.exists():
            where = " or ".join(str(path.parent) for path in self._paths(asked.reference))
            raise UserError(f"no runs in {asked.reference}, from {where}: {command}")
        runs = read(path)
        if not runs:
            raise UserError(f"{path} holds no runs: {command}")
        if not (found := runs_named(runs, asked.name)):
            names = ", ".join(dict.fromkeys(run.key.study for run in runs))
            raise UserError(f"{path} holds runs of {names}, none of {asked.name}: {command}")
        return found, name
