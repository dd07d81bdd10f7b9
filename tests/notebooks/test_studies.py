"""The studies beyond regularization against their reference runs, and the records of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlsys_bench.report.plots.table import plots
from dlsys_bench.runs.store import find_reference, reference_runs
from dlsys_bench.studies.base import MOST_NETWORKS, Case, Study
from dlsys_bench.studies.registry import find, studies
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


@pytest.mark.parametrize("case", find("all"), ids=lambda case: case.name)
def test_arms_that_share_a_protocol_train_alike(case: Case) -> None:
    """A reference band consists of runs of one arm and protocol, so that arms of one study with the
    same protocol have to train alike."""
    for other in case.study.arms:
        if other.name != case.arm.name and other.protocol("full") == case.arm.protocol("full"):
            assert (other.model, other.recipe("full"), other.options) == (
                case.arm.model,
                case.arm.recipe("full"),
                case.arm.options,
            )
            assert other.dataset != case.arm.dataset or case.study.name == "perceptron"


IMAGES = {"mnist", "fashion_mnist"}
DIGITS = 1437
"""The number of training samples of the digits."""


@pytest.mark.parametrize("case", find("all"), ids=lambda case: case.name)
def test_a_judged_arm_has_enough_reference_runs(case: Case) -> None:
    """Without them its gate would be inconclusive and skipped, and nobody would notice."""
    for dataset in [case.dataset, *(["digits"] if case.dataset in IMAGES else [])]:
        if case.arm.bound is None and case.arm.reason_unjudged(dataset, "quick") is None:
            if dataset == "digits" and case.arm.recipe("quick").batch_size > DIGITS:
                continue
            path = find_reference(case.study.name, dataset, "quick")
            known = reference_runs(path, case.arm.name, case.arm.protocol("quick"))
            assert (
                len([run for run in known if run.metric(case.study.metric.name) is not None])
                >= FEWEST_RUNS
            ), path
