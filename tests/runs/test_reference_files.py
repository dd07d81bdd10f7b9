"""The reference files in the repository: each is read, rewritten unchanged, and forms its bands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import line_of, read, reference_runs
from dlsys_bench.studies.base import Arm
from dlsys_bench.studies.registry import studies, superseded
from dlsys_bench.verdicts.bands import FEWEST_RUNS
from dlsys_bench.verdicts.sequential import SequentialGate

FOLDER = Path(__file__).parents[2] / "reports" / "reference"
ADDED = {"replicas": 1, "figures": {}}
"""The fields that the oldest files lack, with their defaults."""


def arm_of(key: Key) -> Arm:
    """Return the arm of today, or the superseded one, whose protocol a stored run has."""
    assert key.study in studies(), "a study is not registered: pip install -e . again"
    study = studies()[key.study]
    earlier = [arm for past in study.superseded for arm in past.arms]
    (found,) = [
        arm
        for arm in (*study.arms, *earlier)
        if arm.name == key.arm and arm.protocol(key.tier) == key.protocol
    ]
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.jsonl")), ids=lambda path: path.stem)
def test_a_reference_file_is_rewritten_unchanged_and_forms_its_bands(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        rewritten = line_of(Result.from_dict(values))
        if ADDED.keys() <= values.keys() and "NaN" not in line:
            assert rewritten == line + "\n"
        else:
            # A figure that is not a number is absent since.
            history = [
                {name: value for name, value in epoch.items() if value == value}
                for epoch in values["history"]
            ]
            assert json.loads(rewritten) == ADDED | values | {"history": history}
    stored = read(path)
    first = arm_of(stored[0].key)
    found = reference_runs(path, first.name, stored[0].key.protocol)
    assert [run.key for run in found] == [run.key for run in stored if run.key.arm == first.name]
    for key in {replace(run.key, engine="", seed=None) for run in stored}:
        study, arm = studies()[key.study], arm_of(key)
        assert bool(superseded(key.study, key.protocol)) == (path.parent.name == "superseded")
        runs = [run for run in stored if run.key.arm == arm.name]
        assert {run.key.protocol for run in runs} == {arm.protocol(key.tier)}
        finished = [value for run in runs if (value := run.metric(study.metric.name)) is not None]
        if len(finished) >= FEWEST_RUNS:
            band = SequentialGate(finished).band
            assert band is not None
            assert band.n == len(finished)
        elif key.tier == "quick":
            # Only an arm without a gate may have fewer runs.
            assert arm.bound is not None or arm.reason_unjudged(key.dataset, key.tier)
        # The engines of the stored runs draw equal random numbers from a seed.
        assert len({run.seed for run in runs}) == len(runs)
