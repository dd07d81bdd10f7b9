"""The studies beyond regularization against their reference runs, and the records of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.report.plots.table import plots
from dlsys_bench.runs.store import find_reference, read
from dlsys_bench.studies.base import MOST_NETWORKS, Study
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.bands import FEWEST_RUNS

OTHERS = [study.name for study in studies().values() if study.group != "regularization"]


@pytest.mark.study
@pytest.mark.dlsys_study(*OTHERS)
def test_a_study_agrees_with_its_reference_runs(
    dlsys_case: Any, dlsys_gate: Callable[[Any], Any]
) -> None:
    dlsys_gate(dlsys_case)


@pytest.mark.parametrize("study", studies().values(), ids=studies())
def test_a_study_is_complete(study: Study) -> None:
    assert study.title
    assert set(study.plots) <= set(plots())
    for arm in study.arms:
        assert set(arm.recipes) == {"quick", "full"}
        assert all(0 < count <= MOST_NETWORKS for count in arm.networks.values())
        # If only the grid differs by tier, the tier alone distinguishes the runs, and a file holds
        # those of one tier.
        alike = arm.recipe("quick") == arm.recipe("full") and arm.networks.get(
            "quick"
        ) == arm.networks.get("full")
        assert (arm.protocol("quick") == arm.protocol("full")) == alike


@pytest.mark.parametrize("study", studies().values(), ids=studies())
def test_arms_that_share_a_protocol_train_alike(study: Study) -> None:
    """A reference band consists of runs of one arm and protocol, so that arms of one study with the
    same protocol have to train alike."""
    for one, other in combinations(study.arms, 2):
        if one.protocol("full") == other.protocol("full"):
            same = (other.model, other.recipe("full"), other.options)
            assert (one.model, one.recipe("full"), one.options) == same, (one.name, other.name)
            assert one.dataset != other.dataset or study.name == "perceptron"


IMAGES = {"mnist", "fashion_mnist"}
DIGITS = 1437
"""The number of training samples of the digits."""


@cache
def judged_runs(path: Path, metric: str) -> Counter[tuple[str, str]]:
    """Return the number of runs of each arm and protocol that have a figure."""
    runs = read(path) if path.exists() else []
    return Counter(
        (run.key.arm, run.key.protocol) for run in runs if run.metric(metric) is not None
    )


@pytest.mark.parametrize("study", studies().values(), ids=studies())
def test_a_judged_arm_has_enough_reference_runs(study: Study) -> None:
    """Without them its gate would be inconclusive and skipped, and nobody would notice."""
    few = []
    for arm in study.arms:
        named = arm.dataset or study.dataset
        for dataset in (named, *(["digits"] if named in IMAGES else [])):
            if arm.bound is not None or arm.reason_unjudged(dataset, "quick") is not None:
                continue
            if dataset == "digits" and arm.recipe("quick").batch_size > DIGITS:
                continue
            path = find_reference(study.name, dataset, "quick")
            count = judged_runs(path, study.metric.name)[arm.name, arm.protocol("quick")]
            few += [(arm.name, dataset)] if count < FEWEST_RUNS else []
    assert few == []
