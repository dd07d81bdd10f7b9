"""The reference files in the repository: each is read, rewritten unchanged, and forms its bands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import line_of, read, reference_runs
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.bands import FEWEST_RUNS
from dlsys_bench.verdicts.sequential import SequentialGate

FOLDER = Path(__file__).parents[2] / "reports" / "reference"
ADDED = {"replicas": 1, "figures": {}}
"""The fields that the oldest files lack, with their defaults."""


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_reference_file_is_rewritten_unchanged_and_forms_its_bands(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        rewritten = line_of(Result.from_dict(values))
        if ADDED.keys() <= values.keys():
            assert rewritten == line + "\n"
        else:
            assert json.loads(rewritten) == ADDED | values
    stored = read(path)
    for key in {run.key.task() for run in stored}:
        study = studies()[key.study]
        arm = study.arm(key.arm)
        runs = reference_runs(path, arm.name, arm.protocol(key.tier))
        # As text, because a loss that is not a number does not equal itself.
        expected = [line_of(run) for run in stored if run.key.arm == arm.name]
        assert list(map(line_of, runs)) == expected
        finished = [value for run in runs if (value := run.metric(study.metric.name)) is not None]
        if len(finished) >= FEWEST_RUNS:
            band = SequentialGate(finished).band
            assert band is not None
            assert band.n == len(finished)
        elif key.tier == "quick":
            # Only an arm without a gate may have fewer runs.
            assert arm.bound is not None or arm.reason_unjudged(key.dataset, key.tier)
