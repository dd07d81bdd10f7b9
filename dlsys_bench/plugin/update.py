"""Reference runs from pytest: `--dlsys-update` trains in place of judging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.plugin.arguments import GateArguments
from dlsys_bench.plugin.progress import progress_of_test
from dlsys_bench.report.display import latest_figures
from dlsys_bench.runs.callables import Train, train_once
from dlsys_bench.runs.dependencies import TRAINING, data_files, dependencies_of
from dlsys_bench.runs.direction import check_better, with_better
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import check_writable, read
from dlsys_bench.verdicts.acceptance import accepted, differences, replace_runs
from dlsys_bench.verdicts.independence import NO_EFFECT
from dlsys_bench.verdicts.repeats import repeated_seeds

REFERENCE_RUNS = 20
"""The number of runs that `pytest --dlsys-update` trains, with the seeds from 0 on."""


def update(request: pytest.FixtureRequest, asked: GateArguments, path: Path) -> None:
    """Train new reference runs, write them in place of the old, and skip the test.

    Raises UserError; the file is unchanged then.
    """
    name, better = asked.name, asked.better
    check_writable(path)
    stored = read(path) if path.exists() else []
    old = [run for run in stored if run.key.study == name]
    directions = {"": better} if isinstance(better, str) else dict(better or {})
    for each in directions.values():
        check_better(each)
    new = []
    with progress_of_test(request, REFERENCE_RUNS, "reference runs") as advance:
        for seed in range(REFERENCE_RUNS):
            new.append(with_better(_trained(asked.train, name, seed), directions))
            advance(f"seed {seed}: {latest_figures(new[-1])}", 1)
    if repeated := repeated_seeds(new):
        raise UserError(f"training {name!r}: {repeated}: {NO_EFFECT}")
    if old:
        new = accepted(old, new, "pytest --dlsys-update", request.path.parent)
    replace_runs(path, name, new)
    pytest.skip(f"{path}: {len(new)} reference runs written; {'; '.join(differences(old, new))}")


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
